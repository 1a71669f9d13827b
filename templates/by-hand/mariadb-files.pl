#!/usr/bin/perl
# Looks at copies of MariaDB's files before anything is done with them, and at how their preparation ends. Needs perl alone.
#
# A copy comes out of a store. Its stream names the files that `mbstream` writes, wherever that is, and its `backup-my.cnf` is read by the
# programs that prepare it and by a server that is started on it.

use strict;
use warnings;

my $USAGE = <<'END';
usage: mariadb-files.pl look COPY
       mariadb-files.pl whole PROGRAM...

  look     fails where the stream in the file COPY would write outside of its folder, or has settings that no copy needs
  whole    runs the program, and fails where its last words are not that all went well
END

my $OPTIONS = 'backup-my.cnf';
my $COMPLETED = 'completed OK!';
my ($LONGEST_PATH, $LARGEST_OPTIONS) = (512, 64 * 1024);

# What MariaDB's own program writes there; the values of most name no path.
my $PLAIN = join '|', map { "innodb_$_" } qw(
    buffer_pool_filename checksum_algorithm compression_level data_file_path encrypt_log encrypt_tables fast_checksum log_block_size
    log_file_size log_files_in_group page_size undo_tablespaces
);
my $KEYS = 'file_key_management|hashicorp_key_management|aws_key_management';

sub fail {
    my ($why) = @_;
    $why =~ s/[^\x20-\x7e]/?/g;
    print STDERR "mariadb-files.pl: $why\n";
    exit 1;
}

sub is_harmless {
    my ($line) = @_;
    $line =~ s/^ +| +$//g;
    return 1 if $line eq '' || $line =~ /^#/ || $line eq '[mysqld]';
    my ($name, $value) = split /=/, $line, 2;
    return 0 unless defined $value;
    # Every program is told another one.
    return 1 if $name eq 'innodb_undo_directory';
    return $value !~ m{/|\.\.} if $name =~ /\A(?:$PLAIN)\z/;
    return !grep { !/\A(?:$KEYS)(?:=(?:$KEYS)(?:\.so)?)?\z/ } grep { $_ ne '' } split /;/, $value if $name eq 'plugin_load';
    return $value =~ m{\A"?/usr/} && $value !~ m{/\.\.(?:/|"|\z)} if $name eq 'plugin_dir';
    # Where the keys are.
    return $name =~ /\A(?:$KEYS)_[A-Za-z0-9_]+\z/;
}

sub must_only_describe {
    my ($settings) = @_;
    fail("$OPTIONS is too large for what it should tell") if length $settings >= $LARGEST_OPTIONS;
    fail("$OPTIONS has a control character in it") if $settings =~ /[\x00-\x09\x0b-\x1f\x7f]/;
    for my $line (split /\n/, $settings) {
        fail("$OPTIONS has a setting that no copy needs: $line") unless is_harmless($line);
    }
}

sub must_stay_inside {
    my ($path) = @_;
    fail("the copy holds `$path`, which has a control character in its name") if $path =~ /[\x00-\x1f\x7f]/;
    fail("the copy holds `$path`, which leads out of the folder") if $path =~ m{\A/|(?:\A|/)\.\.(?:/|\z)};
    fail("the copy holds `$path`, which leads to files that lie elsewhere") if $path =~ /\.isl\z/i;
}

sub take {
    my ($stream, $length) = @_;
    my $got = read($stream, my $bytes, $length);
    fail("failed to read the copy: $!") unless defined $got;
    fail('the copy ends in the middle of a chunk') if $got != $length;
    return $bytes;
}

# A stream is a row of chunks (MariaDB's sources, extra/mariabackup/xbstream.h), numbers little-endian: the magic number, flags, a type,
# the length of a path, the path; and for the type P a length, an offset, a checksum and so many bytes of the file.
sub look {
    my ($file) = @_;
    open my $stream, '<:raw', $file or fail("failed to open $file: $!");
    my $end = -s $stream;
    my ($settings, %open) = ('');
    while (tell($stream) < $end) {
        my ($magic, undef, $kind, $length) = unpack 'a8 C a1 V', take($stream, 14);
        fail('the copy has no chunk where one begins') if $magic ne 'XBSTCK01';
        fail('the copy names a file without a name, or with one that is too long') if $length < 1 || $length > $LONGEST_PATH;
        my $path = take($stream, $length);
        must_stay_inside($path);
        if ($kind eq 'E') {
            delete $open{$path};
            next;
        }
        fail('the copy has a chunk of an unknown type') if $kind ne 'P';
        $open{$path} = 1;
        my $size = unpack 'Q<', take($stream, 20);
        fail('the copy ends in the middle of a chunk') if $size > $end - tell($stream);
        if ($path =~ m{\A(?:\./+)*\Q$OPTIONS\E\z}) {
            fail("$OPTIONS is too large for what it should tell") if length($settings) + $size >= $LARGEST_OPTIONS;
            $settings .= take($stream, $size);
            next;
        }
        seek $stream, $size, 1 or fail("failed to read $file: $!");
    }
    my ($unclosed) = sort keys %open;
    fail("the copy ends in the middle of $unclosed") if defined $unclosed;
    must_only_describe($settings);
}

# The words are those on standard error, and go on to it.
sub whole {
    my @program = @_;
    open my $output, '>&', \*STDOUT or fail("failed to keep standard output: $!");
    my $pid = open my $words, '-|';
    fail("failed to start $program[0]: $!") unless defined $pid;
    if ($pid == 0) {
        open STDERR, '>&', \*STDOUT or exit 127;
        open STDOUT, '>&', $output or exit 127;
        no warnings 'exec';
        exec { $program[0] } @program or print STDERR "failed to start $program[0]: $!\n";
        exit 127;
    }
    my $last = '';
    while (defined(my $line = <$words>)) {
        print STDERR $line;
        $last = $line if $line =~ /\S/;
    }
    close $words;
    fail("$program[0] failed") if $? != 0;
    fail("$program[0] ended without its last words `$COMPLETED`") unless $last =~ /\Q$COMPLETED\E\s*\z/;
}

my ($what, @rest) = @ARGV;
if (defined $what && $what eq 'look' && @rest == 1) {
    look(@rest);
} elsif (defined $what && $what eq 'whole' && @rest) {
    whole(@rest);
} else {
    print STDERR $USAGE;
    exit 2;
}
