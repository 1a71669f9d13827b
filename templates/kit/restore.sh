#!/bin/sh
# Restores an artifact of Backstay without Backstay.
#
# Needs sh, coreutils, age, zstd, jq and ssh-keygen; nothing else, and no network. Nothing is believed before it is
# checked: the manifest's signature, the SHA-256 of the index and of every pack, and the SHA-256 of what comes out.

set -eu
umask 077
LC_ALL=C
export LC_ALL

usage() {
    cat >&2 <<'USAGE'
usage: restore.sh -s SIGNERS -i IDENTITY STORE FLEET BACKUP ARTIFACT... OUT
       restore.sh -s SIGNERS STORE FLEET BACKUP

The first form writes what the artifacts hold into the new folder OUT: of several, such as a full and the logs behind it,
one after the other. The second lists the artifacts.

  -s SIGNERS    allowed_signers of the recovery kit, never a file found in a store
  -i IDENTITY   age identity of one of the recipients
  STORE         folder that holds the store's content, such as a download of it
  ARTIFACT      name of an artifact, or `latest`: the newest that is no log
USAGE
    exit 2
}

fail() {
    printf 'restore.sh: failed to %s\n' "$*" >&2
    exit 1
}

say() {
    printf '%s\n' "$*" >&2
}

# name TEXT: whether it is safe as a part of a path.
name() {
    case $1 in '' | .* | *[!A-Za-z0-9._-]*) return 1 ;; esac
}

# check OBJECT SIZE SHA256: the object in the store is what the manifest says.
check() {
    [ -f "$folder/$1" ] || fail "find $1; another store's copy may have it"
    [ "$(wc -c <"$folder/$1")" -eq "$2" ] || fail "check $1: it does not have $2 bytes; try another store's copy"
    sum=$(sha256sum <"$folder/$1")
    [ "${sum%% *}" = "$3" ] || fail "check $1: its SHA-256 is not $3; try another store's copy"
}

# resolve ARTIFACT: the name under which a store has it: its own, or that of its repair.
resolve() {
    if [ -f "$folder/artifacts/$1.json" ]; then
        printf '%s\n' "$1"
        return
    fi
    for found in "$folder"/artifacts/*.json; do
        [ -f "$found" ] || continue
        if [ "$(jq -r '.supersedes // empty' "$found")" = "$1" ]; then
            basename "$found" .json
            return
        fi
    done
    fail "find artifacts/$1.json; another store's copy may be there"
}

# trust ARTIFACT: copies its manifest to $work once its signature is right.
trust() {
    name "$1" || fail "use \`$1\`: it is not an artifact's name"
    [ -f "$folder/artifacts/$1.json" ] || fail "find artifacts/$1.json"
    [ -f "$folder/artifacts/$1.json.sig" ] || fail "find artifacts/$1.json.sig"
    cp -- "$folder/artifacts/$1.json" "$work/$1.json"
    ssh-keygen -Y verify -f "$signers" -I backstay -n backstay-manifest \
        -s "$folder/artifacts/$1.json.sig" <"$work/$1.json" >/dev/null ||
        fail "trust artifacts/$1.json: no key in $signers signed it; do not use this copy"
    told=$(jq -r '[.format, .fleet, .backup, .artifact] | join("/")' "$work/$1.json")
    [ "$told" = "backstay.manifest/1/$fleet/$backup/$1" ] || fail "use artifacts/$1.json: it is the manifest of $told"
}

# brings ARTIFACT FILE: checks everything that the artifact needs, and writes its stream to FILE.
bring() {
    manifest=$work/$1.json
    [ "$(jq -r '.content | keys[0]' "$manifest")" = segments ] ||
        fail "restore $1: it is a provider's own snapshot: $(jq -c .content "$manifest")"
    jq -r '.content.segments.index | "\(.size) \(.sha256)"' "$manifest" >"$work/index"
    read -r size sha256 <"$work/index"
    check "packs/$1/index" "$size" "$sha256"
    jq -r '.content.segments.packs | to_entries[] | "\(.key) \(.value.size) \(.value.sha256)"' "$manifest" >"$work/packs"
    while read -r pack size sha256; do
        name "${pack%/*}" && name "${pack##*/}" || fail "use the pack $pack: it is not a pack's name"
        check "packs/$pack" "$size" "$sha256"
    done <"$work/packs"
    say "$1: signature, index and packs are right"
    open_segments <"$folder/packs/$1/index" >"$2.part"
    prove "$manifest" "$2.part"
    mv -- "$2.part" "$2"
}

# open_segments: the stream whose index is on standard input.
open_segments() {
    read -r format
    [ "$format" = backstay.index/1 ] || fail "read an index of the format $format"
    while read -r hash pack offset length; do
        [ "$hash" = run ] && continue
        tail -c "+$((offset + 1))" -- "$folder/packs/$pack" | head -c "$length" |
            age -d -i "$identity" >"$work/segment" || fail "decrypt the segment at $offset of packs/$pack"
        zstd -d -c -q <"$work/segment" || fail "decompress the segment at $offset of packs/$pack"
    done
}

# prove MANIFEST FILE: the stream is the one that was captured.
prove() {
    length=$(jq -r .content.segments.length "$1")
    [ "$(wc -c <"$2")" -eq "$length" ] || fail "restore $2: it does not have $length bytes"
    jq -r '.sealed // empty' "$1" | base64 -d >"$work/sealed"
    [ -s "$work/sealed" ] || return 0
    age -d -i "$identity" <"$work/sealed" >"$work/details" || fail "decrypt what is sealed in $1"
    sha256=$(jq -r '.sha256 // empty' "$work/details")
    [ -n "$sha256" ] || return 0
    sum=$(sha256sum <"$2")
    [ "${sum%% *}" = "$sha256" ] || fail "restore $2: its SHA-256 is not $sha256"
}

# newest: the name of the newest artifact that can be trusted and is no log.
newest() {
    list >"$work/list"
    [ -s "$work/list" ] || fail "find an artifact that can be trusted in $folder"
    # Names begin with the time of the capture. A log brings nothing back by itself.
    found=''
    while read -r listed kind _; do
        [ "$kind" = log ] || found=$listed
    done <"$work/list"
    [ -n "$found" ] || fail "find anything but logs in $folder"
    printf '%s\n' "$found"
}

# bring_whole ARTIFACT: writes what the artifact requires, and then itself, into the files that come next.
bring_whole() {
    artifact=$1
    [ "$artifact" != latest ] || artifact=$(newest)
    name "$artifact" || fail "use \`$artifact\`: it is not an artifact's name"
    artifact=$(resolve "$artifact")
    trust "$artifact"
    jq -r '.requires[]?' "$work/$artifact.json" >"$work/chain"
    printf '%s\n' "$artifact" >>"$work/chain"
    while read -r link; do
        number=$((number + 1))
        link=$(resolve "$link")
        trust "$link"
        stream=$(jq -r '.content.segments.stream // "stream"' "$work/$link.json")
        case $stream in '' | .* | */*) fail "use the name of the stream of $link: $stream" ;; esac
        file=$out/$(printf '%02d' "$number")-$stream
        bring "$link" "$file"
        say "restored $file"
    done <"$work/chain"
}

# list: the artifacts that can be trusted. Those that cannot are named on standard error, and remembered in $bad.
list() {
    for found in "$folder"/artifacts/*.json; do
        [ -f "$found" ] || fail "find any artifact in $folder"
        artifact=$(basename "$found" .json)
        (trust "$artifact") || {
            bad=1
            continue
        }
        jq -r '[.artifact, .kind, (.moment.at.time // .moment.window.until.time)] | join("  ")' "$work/$artifact.json"
    done
}

signers='' identity=''
while getopts s:i: option; do
    case $option in
        s) signers=$OPTARG ;;
        i) identity=$OPTARG ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ -n "$signers" ] || usage
[ -f "$signers" ] || fail "read $signers: there is no such file"
[ $# -eq 3 ] || [ $# -ge 5 ] || usage
store=$1 fleet=$2 backup=$3
name "$fleet" && name "$backup" || fail "use $fleet/$backup: these are no names of a fleet and a backup"
folder=$store/$fleet/$backup
[ -d "$folder" ] || fail "find $folder"
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

bad=0
if [ $# -eq 3 ]; then
    list
    exit "$bad"
fi

shift 3
[ -n "$identity" ] || usage
[ -f "$identity" ] || fail "read $identity: there is no such file"
for out; do :; done
mkdir -- "$out" || fail "make the new folder $out"
number=0
while [ $# -gt 1 ]; do
    bring_whole "$1"
    shift
done
