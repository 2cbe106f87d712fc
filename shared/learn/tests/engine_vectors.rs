//! The engine against reference vectors from PyTorch autograd in float64.
#![allow(clippy::unwrap_used)]

use fusiondp_learn::vectors::{VectorError, check};

const FILES: [(&str, &[u8]); 3] = [
    ("linear", include_bytes!("vectors/linear.safetensors")),
    ("mlp_bank", include_bytes!("vectors/mlp_bank.safetensors")),
    ("mlp_sepsis", include_bytes!("vectors/mlp_sepsis.safetensors")),
];

#[test]
fn every_quantity_agrees_in_both_precisions() {
    for (name, bytes) in FILES {
        let report = check(bytes).unwrap();
        assert_eq!(report.quantities.len(), 11, "{name}");
        for q in &report.quantities {
            println!("{name:12} {:28} f64 {:9.2e} f32 {:9.2e}", q.quantity, q.double, q.single);
        }
        assert!(report.worst_double() <= 1e-9, "{name}: f64 {:e}", report.worst_double());
        assert!(report.worst_single() <= 1e-4, "{name}: f32 {:e}", report.worst_single());
    }
}

#[test]
fn a_changed_figure_is_noticed() {
    let (_, bytes) = FILES[1];
    let mut bytes = bytes.to_vec();
    // The sign byte of the file's last value.
    *bytes.last_mut().unwrap() ^= 0x80;
    assert!(check(&bytes).unwrap().worst_double() > 1e-3);
}

#[test]
fn damaged_files_are_errors() {
    let (_, bytes) = FILES[0];
    assert!(matches!(check(&bytes[..bytes.len() - 1]), Err(VectorError::Format(_))));
    assert!(matches!(check(b"not a file"), Err(VectorError::Format(_))));
}
