#!/bin/sh
# Restores buckets that Backstay captured into a running server of InfluxDB 2.x, under their own names.
#
# Needs sh, tar, curl and jq. The server must be set up, and hold none of the buckets. Each shard is put together on disk before it
# is sent, in a folder that is removed at the end.

set -eu
umask 077

if [ $# -lt 4 ]; then
    cat >&2 <<'USAGE'
usage: influxdb2.sh URL ORGANIZATION HEADER FOLDER [BUCKET...]

  URL            where the server's API is
  ORGANIZATION   the name of an organization that is there
  HEADER         a file with `Authorization: Token …`
  FOLDER         what `tar -xf influxdb2.tar` made
  BUCKET         a name; all that were captured where none is given
USAGE
    exit 2
fi
url=$1 organization=$2 header=$3 folder=$4
shift 4

fail() {
    printf 'influxdb2.sh: failed to %s\n' "$*" >&2
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# call ARGUMENTS...: asks the server.
call() {
    curl --fail --silent --show-error --header "@$header" "$@"
}

# send FILE WHERE: hands it a file.
send() {
    call --request POST --upload-file "$1" "$url/api/v2/restore/$2"
}

# must_be_number WORD BUCKET: what stands in paths is the number of a shard.
must_be_number() {
    case $1 in '' | *[!0-9]*) fail "read which shards bucket $2 has" ;; esac
}

call --get --data-urlencode "org=$organization" "$url/api/v2/orgs" >"$work/organizations"
id=$(jq -r --arg name "$organization" '.orgs[] | select(.name == $name) | .id' "$work/organizations")
[ -n "$id" ] || fail "find the organization $organization"

# As JSON, for a name may hold anything.
if [ $# -eq 0 ]; then
    jq -c '.buckets[].bucketName' "$folder/backstay.json" >"$work/names"
else
    jq -cn '$ARGS.positional[]' --args -- "$@" >"$work/names"
fi
[ -s "$work/names" ] || fail "find any bucket in $folder/backstay.json"
while read -r name; do
    jq --argjson name "$name" --arg id "$id" \
        '.buckets[] | select(.bucketName == $name) | .organizationID = $id' "$folder/backstay.json" >"$work/bucket"
    [ -s "$work/bucket" ] || fail "find bucket $name in $folder/backstay.json"
    # Shards that are about to be removed, or were empty, have no folder.
    jq -r '.retentionPolicies[].shardGroups[] | select(.deletedAt == null) | .shards[].id' "$work/bucket" >"$work/named"
    : >"$work/captured"
    while read -r shard; do
        must_be_number "$shard" "$name"
        if [ -d "$folder/$shard" ]; then printf '%s\n' "$shard" >>"$work/captured"; fi
    done <"$work/named"
    send "$work/bucket" bucketMetadata >"$work/made"
    jq -r '.shardMappings[]? | "\(.oldId) \(.newId)"' "$work/made" >"$work/shards"
    : >"$work/sent"
    while read -r old new; do
        must_be_number "$old" "$name"
        must_be_number "$new" "$name"
        if [ ! -d "$folder/$old" ]; then continue; fi
        tar -C "$folder/$old" -cf "$work/shard" .
        send "$work/shard" "shards/$new"
        printf '%s\n' "$old" >>"$work/sent"
    done <"$work/shards"
    [ "$(sort "$work/sent")" = "$(sort "$work/captured")" ] ||
        fail "restore all shards of bucket $name, which is on the server in part now: remove it there before another attempt"
    printf 'restored bucket %s\n' "$name" >&2
done <"$work/names"
