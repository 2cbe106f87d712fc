//! Batches of a model on worker threads, one session each.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::PoisonError;

use fusiondp_learn::imputer::imputed_column;
use fusiondp_learn::schema::{Column, Schema};
use fusiondp_learn::table::PublicFeatures;
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{DynValue, Tensor, TensorRef};

use super::ImputerError;
use super::binding::{Binding, FloatElement, InputColumn, InputContent, Inputs, OutputPlace};
use crate::data::Progress;

/// Records per call: large enough to hide a call's cost, small enough to stay in cache.
pub(super) const BATCH_ROWS: usize = 4_096;

/// One model, and how it is fed and read.
pub(super) struct Inference<'a> {
    pub(super) environment: &'a Environment,
    pub(super) model: &'a [u8],
    pub(super) binding: &'a Binding,
    pub(super) schema: &'a Schema,
    pub(super) public: &'a PublicFeatures,
}

/// Batches not yet taken, and finished ones: first row, cells per feature.
struct Work {
    next_row: usize,
    done: Vec<(usize, Vec<Vec<f32>>)>,
    rows_done: usize,
    progress: Progress,
}

impl Inference<'_> {
    /// Cells of every sensitive feature, `[N]` each, in schema order.
    pub(super) fn run(&self, workers: usize, progress: Progress) -> Result<Vec<Vec<f32>>, ImputerError> {
        let rows = self.public.rows();
        let work = Mutex::new(Work { next_row: 0, done: Vec::new(), rows_done: 0, progress });
        let workers = workers.clamp(1, rows.div_ceil(BATCH_ROWS).max(1));
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers).map(|_| scope.spawn(|| self.worker(&work))).collect();
            handles.into_iter().try_for_each(|handle| {
                handle.join().unwrap_or_else(|_| Err(ImputerError::inference("a worker thread panicked")))
            })
        })?;
        let mut done = work.into_inner().unwrap_or_else(PoisonError::into_inner).done;
        done.sort_by_key(|(first_row, _)| *first_row);
        let mut columns = vec![Vec::with_capacity(rows); self.binding.outputs.len()];
        for (_, batch) in done {
            columns.iter_mut().zip(batch).for_each(|(column, cells)| column.extend(cells));
        }
        Ok(columns)
    }

    fn worker(&self, work: &Mutex<Work>) -> Result<(), ImputerError> {
        // More threads inside a session would change the last bits of tree ensembles and scale worse.
        let builder = Session::builder(self.environment).map_err(ImputerError::inference)?;
        let builder = builder.with_intra_threads(1).map_err(ImputerError::inference)?;
        let mut builder = builder.with_inter_threads(1).map_err(ImputerError::inference)?;
        let mut session = builder.commit_from_memory(self.model).map_err(ImputerError::inference)?;
        loop {
            let first_row = {
                let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
                let first_row = work.next_row;
                work.next_row += BATCH_ROWS;
                first_row
            };
            if first_row >= self.public.rows() {
                return Ok(());
            }
            let rows = first_row..self.public.rows().min(first_row + BATCH_ROWS);
            let cells = self.batch(&mut session, rows.clone())?;
            let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
            work.rows_done += rows.len();
            work.done.push((first_row, cells));
            let rows_done = work.rows_done;
            work.progress.advance(rows_done, Some(self.public.rows()));
        }
    }

    fn batch(&self, session: &mut Session, rows: Range<usize>) -> Result<Vec<Vec<f32>>, ImputerError> {
        let outputs = session.run(self.inputs(&rows)?).map_err(ImputerError::inference)?;
        let features = self.schema.sensitive().zip(&self.binding.outputs);
        features.map(|(column, place)| cells(column, place, &outputs, rows.len())).collect()
    }

    fn inputs(&self, rows: &Range<usize>) -> Result<Vec<(String, SessionInputValue<'_>)>, ImputerError> {
        match &self.binding.inputs {
            Inputs::Matrix { name, element } => {
                let shape = vec![rows.len(), self.public.columns()];
                let value = float_tensor(shape, self.matrix(rows), *element)?;
                Ok(vec![(name.clone(), value.into())])
            }
            Inputs::Columns(columns) => columns
                .iter()
                .map(|input| {
                    let cells = &self.public.column(input.column)[rows.clone()];
                    Ok((input.name.clone(), column_input(input, cells)?))
                })
                .collect(),
        }
    }

    /// The public cells of some records, row-major.
    fn matrix(&self, rows: &Range<usize>) -> Vec<f32> {
        let columns = self.public.columns();
        let mut values = vec![0.0; rows.len() * columns];
        for column in 0..columns {
            let cells = &self.public.column(column)[rows.clone()];
            values[column..].iter_mut().step_by(columns).zip(cells).for_each(|(value, &cell)| *value = cell);
        }
        values
    }
}

/// The tensor of one column; cells are lent where the model takes them as they are.
fn column_input<'c>(input: &InputColumn, cells: &'c [f32]) -> Result<SessionInputValue<'c>, ImputerError> {
    let shape = if input.as_matrix { vec![cells.len(), 1] } else { vec![cells.len()] };
    match &input.content {
        InputContent::Number(FloatElement::Single) => {
            Ok(TensorRef::from_array_view((shape, cells)).map_err(ImputerError::inference)?.into())
        }
        InputContent::Number(element) => Ok(float_tensor(shape, cells.to_vec(), *element)?.into()),
        InputContent::Words(vocabulary) => {
            let words: Vec<String> = cells.iter().map(|&cell| word(vocabulary, cell).to_owned()).collect();
            let tensor = Tensor::from_string_array((shape, words.as_slice()));
            Ok(tensor.map_err(ImputerError::inference)?.into_dyn().into())
        }
    }
}

/// The word of a categorical cell; "" where missing.
fn word(vocabulary: &[String], cell: f32) -> &str {
    // NaN would convert to index 0, so it is told apart first.
    if cell.is_nan() { "" } else { vocabulary.get(cell as usize).map_or("", String::as_str) }
}

fn float_tensor(
    shape: Vec<usize>,
    values: Vec<f32>,
    element: FloatElement,
) -> Result<DynValue, ImputerError> {
    Ok(match element {
        FloatElement::Single => {
            Tensor::from_array((shape, values)).map_err(ImputerError::inference)?.into_dyn()
        }
        FloatElement::Double => {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            Tensor::from_array((shape, values)).map_err(ImputerError::inference)?.into_dyn()
        }
    })
}

/// Cells of one feature from its scores.
fn cells(
    column: &Column,
    place: &OutputPlace,
    outputs: &SessionOutputs<'_>,
    rows: usize,
) -> Result<Vec<f32>, ImputerError> {
    let refuse = |problem: String| ImputerError::Output { feature: place.feature.clone(), problem };
    let value =
        outputs.get(&place.output).ok_or_else(|| refuse(format!("gave no output \"{}\"", place.output)))?;
    let (shape, scores) = match value.try_extract_tensor::<f32>() {
        Ok((shape, scores)) => (shape.to_vec(), Cow::Borrowed(scores)),
        Err(_) => {
            let (shape, scores) = value.try_extract_tensor::<f64>().map_err(ImputerError::inference)?;
            (shape.to_vec(), scores.iter().map(|score| *score as f32).collect::<Cow<'_, [f32]>>())
        }
    };
    let width = match shape.as_slice() {
        [found] if *found == rows as i64 => 1,
        [found, width] if *found == rows as i64 => usize::try_from(*width).unwrap_or(0),
        _ => {
            return Err(refuse(format!(
                "gives \"{}\" in the shape {shape:?} for {rows} records",
                place.output
            )));
        }
    };
    let (scores, width) = match place.columns {
        None => (scores, width),
        Some((_, end)) if end > width => {
            return Err(refuse(format!("gives \"{}\" with {width} columns, {end} are mapped", place.output)));
        }
        Some((first, end)) => {
            let scores =
                scores.chunks(width).flat_map(|row| &row[first..end]).copied().collect::<Cow<'_, [f32]>>();
            (scores, end - first)
        }
    };
    imputed_column(column, &scores, width)
        .map_err(|problem| ImputerError::Scores { feature: place.feature.clone(), problem })
}
