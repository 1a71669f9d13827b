use super::*;

struct File(Vec<u8>);

impl File {
    fn new(checksums: u8) -> Self {
        let mut file = Self(MAGIC.to_vec());
        let mut body = vec![4; 80];
        body.push(checksums);
        file.event(FORMAT_DESCRIPTION_EVENT, &body, 1);
        file
    }

    fn event(&mut self, kind: u8, body: &[u8], seconds: u32) -> u64 {
        let length = HEADER + body.len() + 4;
        let mut event = seconds.to_le_bytes().to_vec();
        event.extend([kind, 7, 0, 0, 0]);
        event.extend(u32::try_from(length).unwrap().to_le_bytes());
        event.extend(u32::try_from(self.0.len() + length).unwrap().to_le_bytes());
        event.extend([0, 0]);
        event.extend(body);
        let mut digest = Digest::new(CrcAlgorithm::Crc32IsoHdlc);
        digest.update(&event);
        event.extend(u32::try_from(digest.finalize()).unwrap().to_le_bytes());
        self.0.extend(event);
        self.0.len() as u64
    }

    fn gtid(&mut self, number: u64, flags: u8) {
        let mut body = number.to_le_bytes().to_vec();
        body.extend([3, 0, 0, 0, flags, 0, 0, 0, 0, 0, 0]);
        self.event(GTID_EVENT, &body, 10);
    }

    fn query(&mut self, text: &str, seconds: u32) -> u64 {
        let mut body = vec![0; 13];
        (body[8], body[11]) = (4, 2);
        body.extend([9, 9]);
        body.extend(b"shop\0");
        body.extend(text.as_bytes());
        self.event(QUERY_EVENT, &body, seconds)
    }

    fn transaction(&mut self, number: u64, seconds: u32) -> u64 {
        self.gtid(number, 0);
        self.event(23, &[1; 5000], seconds);
        self.event(XID_EVENT, &[0; 8], seconds)
    }
}

fn walked(bytes: &[u8], piece: usize) -> Walk {
    let mut walk = Walk::begin();
    bytes.chunks(piece).for_each(|piece| walk.look(piece));
    walk
}

fn check(file: &File, expect: (u64, u32, Option<u64>), is_whole: bool) {
    for piece in [1, 7, 100_000] {
        let walk = walked(&file.0, piece);
        let last = expect.2.map_or_else(String::new, |number| format!("3-7-{number}"));
        let whole = walk.whole();
        assert_eq!((whole.end, whole.seconds, whole.transactions.to_string()), (expect.0, expect.1, last));
        assert_eq!(walk.is_whole(), is_whole, "by {piece}");
    }
}

#[test]
fn a_file_is_whole_up_to_its_last_group_that_has_ended() {
    let mut file = File::new(1);
    let end = file.transaction(5, 20);
    check(&file, (end, 20, Some(5)), true);
    file.gtid(6, 0);
    check(&file, (end, 20, Some(5)), false);
    file.event(23, &[2; 100], 21);
    check(&file, (end, 20, Some(5)), false);
    let end = file.event(XID_EVENT, &[0; 8], 22);
    check(&file, (end, 22, Some(6)), true);
    file.gtid(7, STANDALONE);
    let end = file.query("CREATE TABLE t (a INT)", 23);
    check(&file, (end, 23, Some(7)), true);
    file.gtid(8, 0);
    file.query("INSERT INTO myisam VALUES (1)", 24);
    check(&file, (end, 23, Some(7)), false);
    let end = file.query("COMMIT", 25);
    check(&file, (end, 25, Some(8)), true);
    let end = file.event(ROTATE_EVENT, &[0; 20], 26);
    check(&file, (end, 26, Some(8)), true);
}

#[test]
fn a_file_tells_the_transactions_before_it_and_at_each_of_its_places() {
    let mut file = File::new(1);
    let begins = file.0.len() as u64;
    let mut list = 300_u32.to_le_bytes().to_vec();
    let gtid = |domain: u32, server: u32, number: u64| Gtid { domain, server, number };
    for listed in (0..298).map(|domain| gtid(domain, 7, 9)).chain([gtid(3, 9, 1), gtid(3, 8, 4)]) {
        list.extend(listed.domain.to_le_bytes());
        list.extend(listed.server.to_le_bytes());
        list.extend(listed.number.to_le_bytes());
    }
    let listed = file.event(GTID_LIST_EVENT, &list, 10);
    let end = file.transaction(5, 20);
    for piece in [1, 7, 100_000] {
        let walk = walked(&file.0, piece);
        let all = (0..298).map(|domain| gtid(domain, 7, 9)).chain([gtid(3, 8, 4)]);
        assert_eq!(walk.whole().before, Some(Transactions::last_of_domains(all)));
        assert_eq!(walk.transactions_at(end), Some(Transactions::last_of_domains([gtid(3, 7, 5)])));
        assert_eq!(walk.transactions_at(listed), None);
    }
    for place in [4, begins, listed] {
        let walk = walked(&file.0[..usize::try_from(place).unwrap()], 1000);
        assert_eq!(walk.transactions_at(place), Some(Transactions::default()), "{place}");
        let within = walked(&file.0[..usize::try_from(place + 1).unwrap()], 1000);
        assert_eq!(within.transactions_at(place + 1), None, "{place}");
    }
    assert_eq!(File::new(1).0.len() as u64, begins);
    assert_eq!(walked(&File::new(1).0, 1000).whole().before, None, "nothing is told");
}

#[test]
fn groups_of_mysql_end_with_their_statement_or_their_transaction() {
    let uuid = [7; 16];
    let mut file = File::new(1);
    let mut before = 1_u64.to_le_bytes().to_vec();
    before.extend(uuid);
    [2_u64, 1, 4, 6, 7].iter().for_each(|number| before.extend(number.to_le_bytes()));
    let begins = file.event(PREVIOUS_GTIDS_LOG_EVENT, &before, 10);
    let gtid = |file: &mut File, number: u64| {
        let body = [&[0][..], &uuid, &number.to_le_bytes(), &[0; 20]].concat();
        file.event(GTID_LOG_EVENT, &body, 10)
    };
    let told = |text: &str| {
        let uuid = "07070707-0707-0707-0707-070707070707";
        Transactions::of_position(&format!("gtid {uuid}:{text}"))
    };
    gtid(&mut file, 4);
    let one = file.query("CREATE TABLE t (a INT)", 20);
    gtid(&mut file, 5);
    file.query("BEGIN", 21);
    file.event(23, &[1; 5000], 21);
    file.query("ROLLBACK TO `s`", 21);
    let opened = file.0.len();
    let two = file.event(XID_EVENT, &[0; 8], 21);
    gtid(&mut file, 7);
    let three = file.event(TRANSACTION_PAYLOAD_EVENT, &[0; 90], 22);
    for piece in [1, 7, 100_000] {
        let walk = walked(&file.0, piece);
        assert_eq!(walk.whole().before, Some(told("1-3:6")));
        assert_eq!((walk.whole().end, &walk.whole().transactions), (three, &told("4-5:7")));
        let open = walked(&file.0[..opened], piece);
        assert_eq!((open.whole().end, &open.whole().transactions), (one, &told("4")));
    }
    assert!(begins < one && one < two);
    file.event(GTID_TAGGED_LOG_EVENT, &[0; 60], 23);
    file.event(XID_EVENT, &[0; 8], 23);
    let walk = walked(&file.0, 4096);
    assert_eq!((walk.whole().end, walk.is_over()), (three, true), "whose number is not read");
}

#[test]
fn wherever_a_file_is_cut_only_whole_groups_count() {
    let mut file = File::new(1);
    let mut ends = vec![0, file.0.len() as u64];
    for number in 1..6 {
        ends.push(file.transaction(number, 20));
    }
    for cut in 0..file.0.len() {
        let walk = walked(&file.0[..cut], 4096);
        let end = ends.iter().rev().find(|end| **end <= cut as u64).copied().unwrap();
        assert_eq!(walk.whole().end, end, "cut at {cut}");
    }
}

#[test]
fn what_was_changed_or_is_no_binary_log_is_not_whole() {
    let mut file = File::new(1);
    let end = file.transaction(1, 20);
    let at = file.0.len() + 2000;
    file.transaction(2, 21);
    let mut changed = file.0.clone();
    changed[at] ^= 1;
    let walk = walked(&changed, 999);
    assert_eq!((walk.whole().end, walk.is_over()), (end, true));
    let mut elsewhere = file.0[..end as usize].to_vec();
    elsewhere.extend(&file.0[4..]);
    assert_eq!(walked(&elsewhere, 999).whole().end, end, "an event that stands in another place");
    for nonsense in [&b"nothing"[..], &[0; 100], b"\xfebin\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
        assert_eq!(walked(nonsense, 5).whole().end, 0);
    }
}

#[test]
fn the_flag_of_a_file_in_use_is_no_damage_and_is_taken_back() {
    let mut file = File::new(1);
    let end = file.transaction(1, 20);
    let closed = file.0.clone();
    file.0[usize::try_from(IN_USE_AT).unwrap()] |= IN_USE;
    check(&file, (end, 20, Some(1)), true);
    let (first, second) = file.0.split_at_mut(10);
    close(first, 0);
    close(second, 10);
    assert_eq!(file.0, closed);
    let mut without = File::new(0);
    let end = without.transaction(1, 20);
    check(&without, (end, 20, Some(1)), true);
}
