//! Charges of tables of counts: recomputed from the lines that list them, and what is forged, renamed, left out or repeated.

use super::super::counts::{CohortVerdict, ReportedCounts};
use super::*;
use crate::study::testing::{counts_charge, noisy_document};

impl Site {
    /// Charges for a table of cohort `test`, unless it is changed, and lists it.
    fn table(&mut self, number: u8, change: impl FnOnce(&mut ChargeRequest)) -> &mut Self {
        let mut request = ChargeRequest {
            model_digest: Digest::of(&[number]),
            update_id: UpdateId::from_bytes([number; 16]),
            ..counts_charge(&self.document, "test")
        };
        change(&mut request);
        charge(&mut self.ledger, vec![request]);
        let entry = self.ledger.entries().last().unwrap().clone();
        self.counts.push(self.key.sign_entry(entry));
        self
    }

    fn counting(name: &'static str, seed: u8) -> Self {
        Self { document: noisy_document(), ..Site::new(name, seed) }
    }
}

/// Three rounds with a table after the first and two after the last.
fn counted(name: &'static str, seed: u8) -> Site {
    let mut site = Site::counting(name, seed);
    site.round(2, 0).table(101, |_| ()).round(3, 2).round(4, 0).table(102, |_| ()).table(103, |_| ());
    site
}

fn tables(count: u32) -> DpEvent {
    let event = counts_charge(&noisy_document(), "test").event;
    event.with_steps(std::num::NonZeroU32::new(count).unwrap())
}

fn replace(events: &[DpEvent]) -> f64 {
    let delta = document().study().privacy.delta;
    fusiondp_dp::epsilon(events, delta, NeighboringRelation::Replace).unwrap().get()
}

#[test]
fn tables_cost_by_cohort_and_with_training_what_their_charges_give() {
    let (a, mut b) = (counted("a", 1), Site::counting("b", 2));
    b.round(2, 0).table(101, |_| ());
    let verified = verify(&[&a, &b]);
    assert!(verified.holds(), "{verified:?}");
    assert_eq!((verified.sites[0].tables, verified.sites[0].charges, verified.sites[1].tables), (3, 5, 1));
    let counts = verified.counts.unwrap();
    let cohort = &counts.cohorts[0];
    assert_eq!((counts.cohorts.len(), cohort.cohort.as_str(), cohort.tables), (1, "test", 3));
    assert_eq!(cohort.epsilon.replace, replace(&[tables(3)]));
    assert_eq!(counts.epsilon_with_training.replace, replace(&[event(2.0, 5), tables(3)]));
    assert_eq!(counts.records_epsilon_with_training, None);
    // Training is accounted by itself, as the site states it.
    assert_eq!(verified.epsilon.replace, replace(&[event(2.0, 5)]));
    assert!(verify(&[&honest()]).counts.is_none());
}

#[test]
fn every_lie_about_counts_is_named() {
    type Lie = fn(&mut Site);
    let lies: [(&str, Lie); 13] = [
        ("is repeated or out of order", |site| site.counts.push(site.counts[2].clone())),
        ("is repeated or out of order", |site| site.counts.swap(0, 1)),
        ("not signed by ledger key", |site| {
            let other = LedgerKey::from_seed([9; LedgerKey::SEED_BYTES]);
            site.counts[1] = other.sign_entry(site.counts[1].entry.clone());
        }),
        ("hash", |site| {
            let text = site.counts[1].canonical_json().replace("\"cohort\":\"test\"", "\"cohort\":\"val\"");
            site.counts[1] = serde_json::from_str(&text).unwrap();
        }),
        ("at the place of a charge of training", |site| {
            let (training, table) = (site.receipts[0].receipt.charges[0].clone(), site.counts.remove(0));
            assert_ne!(training, table);
            site.counts.insert(0, training);
        }),
        ("that another one has paid for", |site| {
            site.table(103, |_| ());
        }),
        ("a cohort that the study does not name", |site| {
            site.table(104, |charge| charge.released = Released::Counts { cohort: "other".to_owned() });
        }),
        ("paid for something else", |site| {
            site.table(104, |charge| charge.released = Released::PublicSum);
        }),
        ("of another study", |site| {
            site.table(104, |charge| charge.study = "other".to_owned());
        }),
        ("has another noise", |site| {
            site.table(104, |charge| charge.event = tables(2));
        }),
        ("another privacy unit", |site| {
            site.table(104, |charge| charge.unit = "visit".to_owned());
        }),
        ("protects something else", |site| {
            site.table(104, |charge| charge.protects = Protection::WholeRecords);
        }),
        ("releases none", |site| site.document = document()),
    ];
    for (index, (named, lie)) in lies.into_iter().enumerate() {
        let mut site = counted("a", 1);
        lie(&mut site);
        let found = problems(&site);
        assert!(found.contains(named), "case {index}, {named}: {found}");
    }
}

/// A signed entry of another history of the same ledger does not follow on the charge before it.
#[test]
fn tables_and_training_are_of_one_chain() {
    let mut site = counted("a", 1);
    let mut other = Site::counting("a", 1);
    other.round(2, 5).table(102, |_| ());
    let forked = other.counts.remove(0);
    assert_eq!(forked.entry.sequence(), site.counts[1].entry.sequence());
    site.counts[1] = forked;
    assert!(problems(&site).contains("does not link"), "{}", problems(&site));
}

#[test]
fn a_report_tells_of_the_tables_that_are_paid_for_and_of_no_smaller_cost() {
    let site = counted("a", 1);
    let verified = verify(&[&site]);
    let (given, training) = (verified.counts.clone().unwrap(), verified.epsilon);
    let says = |site: &Site, change: fn(&mut ReportedCounts)| {
        let mut said = ReportedCounts {
            cohorts: given.cohorts.clone(),
            epsilon_with_training: Some(given.epsilon_with_training),
            records_epsilon_with_training: None,
        };
        change(&mut said);
        let reported = Reported {
            epsilon: training,
            records_epsilon: None,
            counts: (!said.cohorts.is_empty()).then_some(said),
            site_details: Vec::new(),
        };
        let folder =
            Folder { document: site.document.clone(), sites: vec![site.file()], reported: Some(reported) };
        folder.verify(&Trust::default(), || ()).unwrap().problems.join("; ")
    };
    assert_eq!(says(&site, |_| ()), "");
    assert_eq!(says(&site, |said| said.epsilon_with_training.as_mut().unwrap().replace *= 1.5), "");
    type Change = fn(&mut ReportedCounts);
    let cases: [(&str, Change); 5] = [
        ("tells of no tables", |said| said.cohorts.clear()),
        ("tells of these tables", |said| said.cohorts[0].tables = 2),
        ("tells of these tables", |said| {
            let (cohort, epsilon) = ("val".to_owned(), said.cohorts[0].epsilon);
            said.cohorts.push(CohortVerdict { cohort, tables: 1, epsilon });
        }),
        ("of counts of cohort test, the charges give", |said| said.cohorts[0].epsilon.zero_out *= 0.99),
        ("no epsilon of counts and training together", |said| said.epsilon_with_training = None),
    ];
    for (index, (named, change)) in cases.into_iter().enumerate() {
        let found = says(&site, change);
        assert!(found.contains(named), "case {index}, {named}: {found}");
    }
    // Lines that are left out.
    let mut fewer = counted("a", 1);
    fewer.counts.remove(1);
    assert!(says(&fewer, |_| ()).contains("tells of these tables"));
    fewer.counts.clear();
    assert!(says(&fewer, |_| ()).contains("no line here pays for one"));
}

/// The site's file without its charges of counts, as one of the older format.
fn older(mut site: Site) -> ReceiptsFile {
    site.counts.clear();
    ReceiptsFile::parse(&site.file().to_text().replacen("receipts/v2", "receipts/v1", 1)).unwrap()
}

fn verify_folder(sites: Vec<ReceiptsFile>, epsilon: Epsilons, counts: Option<ReportedCounts>) -> Verified {
    let reported = Some(Reported { epsilon, records_epsilon: None, counts, site_details: Vec::new() });
    let folder = Folder { document: noisy_document(), sites, reported };
    folder.verify(&Trust::default(), || ()).unwrap()
}

/// Without a table in the report there is nothing to compare, and that nothing was recomputed is said.
#[test]
fn files_of_the_older_format_are_read_where_no_report_tells_of_tables() {
    let epsilon = verify(&[&counted("a", 1)]).epsilon;
    let verified = verify_folder(vec![older(counted("a", 1))], epsilon, None);
    assert!(verified.holds() && !verified.lists_counts && verified.counts.is_none(), "{verified:?}");
}

/// A coordinator leaves out lines and statements and writes the older format: one such file excused every figure of counts.
#[test]
fn a_file_in_the_form_of_an_older_one_hides_no_table_that_the_report_tells_of() {
    let (a, b) = (counted("a", 1), counted("b", 2));
    let honest = verify(&[&a, &b]);
    let (given, epsilon) = (honest.counts.unwrap(), honest.epsilon);
    let says = |factor: f64| {
        let mut cohorts = given.cohorts.clone();
        cohorts[0].epsilon.replace *= factor;
        Some(ReportedCounts {
            cohorts,
            epsilon_with_training: Some(given.epsilon_with_training),
            records_epsilon_with_training: None,
        })
    };
    assert!(verify_folder(vec![a.file(), b.file()], epsilon, says(1.0)).holds());
    for factor in [1.0, 0.1] {
        let verified = verify_folder(vec![a.file(), older(counted("b", 2))], epsilon, says(factor));
        assert!(!verified.holds() && verified.sites[0].problems.is_empty(), "{verified:?}");
        let found = verified.sites[1].problems.join("; ");
        for named in ["receipts-b.jsonl", "receipts/v1", "export the study again"] {
            assert!(found.contains(named), "{named}: {found}");
        }
        // What site a lists is compared all the same.
        let found = verified.problems.join("; ");
        assert_eq!(found.contains("of counts of cohort test, the charges give"), factor < 1.0, "{found}");
    }
    let verified = verify_folder(vec![older(a), older(b)], epsilon, says(1.0));
    assert!(verified.sites.iter().all(|site| site.problems.len() == 1), "{verified:?}");
}
