//! Products of matrices with cublasLt.
//!
//! cublasLt's matrices lie column by column. A row-major matrix read that way is its transpose, so for `c = a b` it is
//! asked for `c' = b' a'`, and nothing is copied.

#![allow(unsafe_code)] // calls into cublasLt

use super::libraries::{CUBLAS_LT, functions};
use super::{Address, DriverError, Operand, Product};
use rnnc_plan::Precision;
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

/// One algorithm of cublasLt's: opaque.
type Algorithm = [u64; 8];

/// `cublasLtMatmulHeuristicResult_t`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Choice {
    algorithm: Algorithm,
    workspace: usize,
    state: c_int,
    waves: f32,
    reserved: [c_int; 4],
}

functions! {
    Functions {
        fn cublasLtCreate(*mut *mut c_void) -> c_int;
        fn cublasLtDestroy(*mut c_void) -> c_int;
        fn cublasLtGetStatusString(c_int) -> *const c_char;
        fn cublasLtMatmulDescCreate(*mut *mut c_void, c_int, c_int) -> c_int;
        fn cublasLtMatmulDescDestroy(*mut c_void) -> c_int;
        fn cublasLtMatmulDescSetAttribute(*mut c_void, c_int, *const c_void, usize) -> c_int;
        fn cublasLtMatrixLayoutCreate(*mut *mut c_void, c_int, u64, u64, i64) -> c_int;
        fn cublasLtMatrixLayoutDestroy(*mut c_void) -> c_int;
        fn cublasLtMatmulPreferenceCreate(*mut *mut c_void) -> c_int;
        fn cublasLtMatmulPreferenceDestroy(*mut c_void) -> c_int;
        fn cublasLtMatmulPreferenceSetAttribute(*mut c_void, c_int, *const c_void, usize) -> c_int;
        fn cublasLtMatmulAlgoGetHeuristic(
            *mut c_void, *mut c_void, *mut c_void, *mut c_void, *mut c_void, *mut c_void, *mut c_void, c_int,
            *mut Choice, *mut c_int,
        ) -> c_int;
        fn cublasLtMatmul(
            *mut c_void, *mut c_void, *const c_void, *const c_void, *mut c_void, *const c_void, *mut c_void,
            *const c_void, *const c_void, *mut c_void, *mut c_void, *mut c_void, *const Algorithm, *mut c_void,
            usize, *mut c_void,
        ) -> c_int;
    }
}

// Numbers of the library's header.
const R_32F: c_int = 0;
const R_16BF: c_int = 14;
const COMPUTE_32F: c_int = 68;
const COMPUTE_32F_FAST_16BF: c_int = 75;
const COMPUTE_32F_FAST_TF32: c_int = 77;
const TRANSPOSE_A: c_int = 3;
const TRANSPOSE_B: c_int = 4;
const OPERATION_TRANSPOSED: c_int = 1;
const WORKSPACE_BYTES: c_int = 1;
const REDUCTION_SCHEMES: c_int = 3;
const ALIGNMENTS: [c_int; 4] = [5, 6, 7, 8];
/// Parts of a sum are kept apart and added in a fixed order. (One kernel that makes the whole sum is always allowed.)
const REDUCTION_APART: u32 = 2;

/// Bytes of device memory that algorithms may use.
pub(super) const WORKSPACE: usize = 32 << 20;

/// cublasLt, loaded, and what it chose for the shapes seen so far.
pub(super) struct Products {
    functions: Functions,
    handle: *mut c_void,
    precision: Precision,
    prepared: HashMap<Shape, Prepared>,
}

/// All that the choice of an algorithm depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    sizes: [usize; 3],
    /// Of the first operand as the library sees it (our b), the second (our a), the result.
    operands: [(usize, bool); 3],
    /// Of their addresses, in bytes.
    alignments: [u32; 3],
    /// Whether the operands lie in bf16.
    halves: bool,
}

impl Shape {
    fn of(product: &Product) -> Shape {
        let operands = [product.b, product.a, product.c];
        Shape {
            sizes: [product.m, product.n, product.k],
            operands: operands.map(|o| (o.row, o.transposed)),
            alignments: operands.map(|Operand { address, .. }| 1 << address.trailing_zeros().min(8)),
            halves: product.halves,
        }
    }

    /// Of each matrix as the library sees it: rows, columns, and numbers from a column to the next.
    fn layouts(&self) -> [(u64, u64, i64); 3] {
        let [m, n, k] = self.sizes.map(|size| size as u64);
        let [b, a, c] = self.operands;
        let layout = |rows, columns, (stride, transposed): (usize, bool)| {
            let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
            // With one column the stride is never used, but checked.
            (rows, columns, (stride as i64).max(rows as i64))
        };
        [layout(n, k, b), layout(k, m, a), layout(n, m, c)]
    }
}

/// The same product, its result not transposed: `c' = b' a'`.
fn upright(product: &Product) -> Product {
    if !product.c.transposed {
        return *product;
    }
    let turned = |o: Operand| Operand { transposed: !o.transposed, ..o };
    let Product { m, n, a, b, c, .. } = *product;
    Product { m: n, n: m, a: turned(b), b: turned(a), c: turned(c), ..*product }
}

/// What a shape needs.
struct Prepared {
    functions: Functions,
    description: *mut c_void,
    layouts: [*mut c_void; 3],
    algorithm: Algorithm,
}

impl Products {
    /// Loads the library. A context must be current; `driver` is its CUDA version.
    pub fn new(precision: Precision, driver: u32) -> Result<Products, DriverError> {
        let functions = Functions::of(CUBLAS_LT.open(Some(driver))?)?;
        let mut products =
            Products { functions, handle: ptr::null_mut(), precision, prepared: HashMap::new() };
        // SAFETY: it writes one handle.
        let result = unsafe { (functions.cublasLtCreate)(&mut products.handle) };
        products.check("cublasLtCreate", result)?;
        Ok(products)
    }

    /// Whether a product of that shape was started before.
    pub fn knows(&self, product: &Product) -> bool {
        self.prepared.contains_key(&Shape::of(&upright(product)))
    }

    /// Starts a product on a stream of the current context. `workspace` is device memory of [`WORKSPACE`] bytes, which no
    /// other stream's products use.
    pub fn start(
        &mut self,
        product: &Product,
        workspace: Address,
        stream: *mut c_void,
    ) -> Result<(), DriverError> {
        let product = &upright(product);
        let shape = Shape::of(product);
        if !self.prepared.contains_key(&shape) {
            let prepared = self.prepare(&shape)?;
            self.prepared.insert(shape, prepared);
        }
        let Prepared { description, layouts: [b, a, c], algorithm, .. } = &self.prepared[&shape];
        let (one, add) = (1f32, if product.accumulate { 1f32 } else { 0f32 });
        let address = |operand: Operand| operand.address as *mut c_void;
        // SAFETY: descriptions and layouts are alive; the addresses are the caller's matter, as with every command;
        // the workspace is used by this stream's products alone, one after the other.
        let result = unsafe {
            (self.functions.cublasLtMatmul)(
                self.handle,
                *description,
                (&raw const one).cast(),
                address(product.b),
                *b,
                address(product.a),
                *a,
                (&raw const add).cast(),
                address(product.c),
                *c,
                address(product.c),
                *c,
                algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                stream,
            )
        };
        self.check("cublasLtMatmul", result)
    }

    fn prepare(&self, shape: &Shape) -> Result<Prepared, DriverError> {
        let f = self.functions;
        let mut prepared = Prepared {
            functions: f,
            description: ptr::null_mut(),
            layouts: [ptr::null_mut(); 3],
            algorithm: Algorithm::default(),
        };
        let compute = match self.precision {
            _ if shape.halves => COMPUTE_32F,
            Precision::F32 => COMPUTE_32F,
            Precision::Tf32 => COMPUTE_32F_FAST_TF32,
            Precision::Bf16 => COMPUTE_32F_FAST_16BF,
        };
        // SAFETY: it writes one handle.
        let result = unsafe { (f.cublasLtMatmulDescCreate)(&mut prepared.description, compute, R_32F) };
        self.check("cublasLtMatmulDescCreate", result)?;
        for (attribute, (_, transposed)) in [TRANSPOSE_A, TRANSPOSE_B].into_iter().zip(shape.operands) {
            if transposed {
                let value = ptr::from_ref(&OPERATION_TRANSPOSED);
                // SAFETY: the description is alive, and the attribute is a number of 4 bytes.
                let result = unsafe {
                    (f.cublasLtMatmulDescSetAttribute)(prepared.description, attribute, value.cast(), 4)
                };
                self.check("cublasLtMatmulDescSetAttribute", result)?;
            }
        }
        let operand = if shape.halves { R_16BF } else { R_32F };
        let kinds = [operand, operand, R_32F];
        for ((layout, kind), (rows, columns, stride)) in
            prepared.layouts.iter_mut().zip(kinds).zip(shape.layouts())
        {
            // SAFETY: it writes one handle.
            let result = unsafe { (f.cublasLtMatrixLayoutCreate)(layout, kind, rows, columns, stride) };
            self.check("cublasLtMatrixLayoutCreate", result)?;
        }
        prepared.algorithm = self.choose(shape, &prepared)?;
        Ok(prepared)
    }

    /// The library's choice of an algorithm, among those whose results repeat bit for bit.
    fn choose(&self, shape: &Shape, prepared: &Prepared) -> Result<Algorithm, DriverError> {
        let f = self.functions;
        let mut preference = Preference { functions: f, handle: ptr::null_mut() };
        // SAFETY: it writes one handle.
        let result = unsafe { (f.cublasLtMatmulPreferenceCreate)(&mut preference.handle) };
        self.check("cublasLtMatmulPreferenceCreate", result)?;
        let set = |attribute: c_int, value: *const c_void, bytes: usize| {
            // SAFETY: the preference is alive, and `value` points to that many bytes.
            let result = unsafe {
                (f.cublasLtMatmulPreferenceSetAttribute)(preference.handle, attribute, value, bytes)
            };
            self.check("cublasLtMatmulPreferenceSetAttribute", result)
        };
        let workspace = WORKSPACE as u64;
        set(WORKSPACE_BYTES, (&raw const workspace).cast(), 8)?;
        set(REDUCTION_SCHEMES, ptr::from_ref(&REDUCTION_APART).cast(), 4)?;
        let [b, a, c] = shape.alignments;
        for (attribute, alignment) in ALIGNMENTS.into_iter().zip([b, a, c, c]) {
            set(attribute, (&raw const alignment).cast(), 4)?;
        }
        let (mut choice, mut found) = (Choice::default(), 0);
        let [b, a, c] = prepared.layouts;
        // SAFETY: all handles are alive, and there is room for the one answer asked for.
        let result = unsafe {
            (f.cublasLtMatmulAlgoGetHeuristic)(
                self.handle,
                prepared.description,
                b,
                a,
                c,
                c,
                preference.handle,
                1,
                &mut choice,
                &mut found,
            )
        };
        self.check("cublasLtMatmulAlgoGetHeuristic", result)?;
        self.check("cublasLtMatmulAlgoGetHeuristic", choice.state)?;
        if found == 0 {
            let [m, n, k] = shape.sizes;
            let what = format!("it knows no algorithm for a product of {m} x {k} and {k} x {n} numbers");
            return Err(DriverError::Call { call: "cublasLtMatmulAlgoGetHeuristic", what });
        }
        Ok(choice.algorithm)
    }

    fn check(&self, call: &'static str, result: c_int) -> Result<(), DriverError> {
        if result == 0 {
            return Ok(());
        }
        // SAFETY: for every number the answer is a string that stays.
        let text = unsafe { CStr::from_ptr((self.functions.cublasLtGetStatusString)(result)) };
        Err(DriverError::Call { call, what: text.to_string_lossy().into_owned() })
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        self.prepared.clear();
        if !self.handle.is_null() {
            // SAFETY: created, and not destroyed before. Nothing can be done about a failure.
            let _ = unsafe { (self.functions.cublasLtDestroy)(self.handle) };
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for layout in self.layouts.into_iter().filter(|layout| !layout.is_null()) {
            // SAFETY: created, and not destroyed before. Nothing can be done about a failure.
            let _ = unsafe { (self.functions.cublasLtMatrixLayoutDestroy)(layout) };
        }
        if !self.description.is_null() {
            // SAFETY: as above.
            let _ = unsafe { (self.functions.cublasLtMatmulDescDestroy)(self.description) };
        }
    }
}

/// A preference, destroyed when it goes.
struct Preference {
    functions: Functions,
    handle: *mut c_void,
}

impl Drop for Preference {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: created, and not destroyed before. Nothing can be done about a failure.
            let _ = unsafe { (self.functions.cublasLtMatmulPreferenceDestroy)(self.handle) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(m: usize, n: usize, k: usize, a: (usize, bool), b: (usize, bool), c: usize) -> Product {
        let operand = |address, (row, transposed)| Operand { address, row, transposed };
        let (a, b, c) = (operand(1024, a), operand(4, b), operand(2064, (c, false)));
        Product { m, n, k, a, b, c, halves: false, accumulate: false }
    }

    /// What the library computes from its layouts, by definition: `d = op(x) op(y)`, column by column.
    fn computed(product: &Product, x: &[f64], y: &[f64]) -> Vec<f64> {
        let shape = Shape::of(product);
        let [(x_rows, x_columns, x_stride), (y_rows, y_columns, y_stride), (rows, columns, stride)] =
            shape.layouts().map(|(rows, columns, stride)| (rows as usize, columns as usize, stride as usize));
        let [(_, x_transposed), (_, y_transposed), _] = shape.operands;
        let at = |v: &[f64], stride: usize, transposed: bool, row: usize, column: usize| {
            if transposed { v[row * stride + column] } else { v[column * stride + row] }
        };
        let inner = if x_transposed { x_rows } else { x_columns };
        assert_eq!(inner, if y_transposed { y_columns } else { y_rows });
        let mut d = vec![0.0; (columns - 1) * stride + rows];
        for column in 0..columns {
            for row in 0..rows {
                d[column * stride + row] = (0..inner)
                    .map(|i| at(x, x_stride, x_transposed, row, i) * at(y, y_stride, y_transposed, i, column))
                    .sum();
            }
        }
        d
    }

    #[test]
    fn row_major_products_become_column_major_ones_with_the_operands_exchanged() {
        let numbers =
            |count: usize| -> Vec<f64> { (0..count).map(|i| ((i * 7) % 11) as f64 - 5.0).collect() };
        let (m, n, k) = (3, 4, 5);
        for (a_transposed, b_transposed) in [(false, false), (false, true), (true, false), (true, true)] {
            let (a_row, b_row, c_row) = (7, 8, 6);
            let (a, b) = (numbers(7 * 5 + 7), numbers(8 * 5 + 8));
            let product = product(m, n, k, (a_row, a_transposed), (b_row, b_transposed), c_row);
            let c = computed(&product, &b, &a);
            for i in 0..m {
                for j in 0..n {
                    let expected: f64 = (0..k)
                        .map(|l| {
                            let a = if a_transposed { a[l * a_row + i] } else { a[i * a_row + l] };
                            let b = if b_transposed { b[j * b_row + l] } else { b[l * b_row + j] };
                            a * b
                        })
                        .sum();
                    assert_eq!(c[i * c_row + j], expected, "{a_transposed} {b_transposed} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn a_transposed_result_is_the_product_of_the_transposed_operands() {
        let mut wanted = product(2, 3, 4, (4, false), (5, true), 2);
        wanted.c.transposed = true;
        let turned = upright(&wanted);
        let expected = product(3, 2, 4, (5, false), (4, true), 2);
        assert_eq!((turned.m, turned.n, turned.k), (expected.m, expected.n, expected.k));
        assert_eq!((turned.a.row, turned.a.transposed), (5, false));
        assert_eq!((turned.b.row, turned.b.transposed), (4, true));
        assert!(!turned.c.transposed);
        assert_eq!(upright(&expected), expected);
    }

    #[test]
    fn alignments_are_those_of_the_addresses() {
        let shape = Shape::of(&product(2, 2, 2, (2, false), (2, false), 2));
        assert_eq!(shape.alignments, [4, 256, 16]);
    }
}
