//! What only a whole federation can prove, in one test program.
//!
//! | module | proves |
//! |---|---|
//! | `approval` | offered, approved, rejected, spent: the walk of docs/PRIVACY_OPERATIONS.md |
//! | `crash` | killed processes resume; every round applied once; no epsilon below the ledger's events |
//! | `disagreement` | a site refuses a plan that is not its own, before anything is charged |
//! | `end_to_end_tls` | provisioning to report: two sites, real TLS, a fitted ONNX imputer |
//! | `identity` | who is refused, with a clear message on both ends |
//! | `ledger` | receipts verified offline; a restored backup stops its agent, and its charges come back |
//! | `mechanism` | sensitivity, noise and exact zeros of the site's real training step |
//! | `noisy_metrics` | metrics with noise: estimates, charges, costs in the report |
//! | `onnx_export` | the exported model gives the site's probabilities, in Rust and in Python |
//! | `real_data` | accuracy on two real hospitals, and their hourly Parquet files, where these stand |
//! | `refusals` | budgets, missing sites, forbidden metrics, idle connections: seen in status |
//! | `reproduce` | the authors' figures in the authors' setting, where the data stand |
//! | `samples` | every sample in `deploy/samples` loads |
//! | `simulation` | runs in one process repeat; every mode; more sites than hospitals |
//! | `stock_imputers` | scikit-learn exports in the site's imputer |
//! | `vectors` | independent reference figures |
//! | `whole_records` | the second tier: public gradients noised per unit, charged, stated, recomputed |
//!
//! Processes are started from the target folder that this program lies in: `make test` builds them first.

mod approval;
mod crash;
mod disagreement;
mod end_to_end_tls;
mod identity;
mod ledger;
mod mechanism;
mod noisy_metrics;
mod onnx_export;
mod real_data;
mod refusals;
mod reproduce;
mod samples;
mod simulation;
mod stock_imputers;
mod vectors;
mod whole_records;
