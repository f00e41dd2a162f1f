//! The driver on a real GPU: memory, products, launches, recordings. Ignored, since most machines have none:
//! `cargo test -p rnnc-cuda --test driver -- --ignored --test-threads=1`: a recording wants the context to itself.

use rnnc_cuda::driver::{
    Address, Args, Cuda, Driver, DriverError, Geometry, KernelId, Operand, Product, Source,
};

use rnnc_plan::Precision;

fn cuda() -> Cuda {
    Cuda::new(0, Precision::F32).unwrap_or_else(|error| panic!("{error}"))
}

/// Whole numbers, so that sums are exact in any order.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 2_654_435_761) >> 7) as f32 % 17.0 - 8.0).collect()
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn read(cuda: &Cuda, from: Address, count: usize) -> Vec<f32> {
    let mut bytes = vec![0; 4 * count];
    cuda.read(from, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Two kernels: one adds 1 to as many values as there are threads, in one each; one that waits until all blocks came.
fn source() -> Source {
    // Addresses between the first one and the counters'.
    let others = std::mem::offset_of!(Args, counters) / size_of::<Address>() - 1;
    let text = r#"
struct Args { float* values; void* others[OTHERS]; unsigned int* counters; int first, end; };
extern "C" __global__ void add_one(const __grid_constant__ Args a) {
    extern __shared__ float shared[];
    if (a.end) { shared[a.end] = 0.f; }
    a.values[blockIdx.x * blockDim.x + threadIdx.x] += 1.f;
}
extern "C" __global__ void meet(const __grid_constant__ Args a) {
    if (threadIdx.x == 0) {
        atomicAdd(a.counters, 1u);
        while (*(volatile unsigned int*)a.counters < gridDim.x) {}
        a.values[blockIdx.x] = (float)gridDim.x;
    }
}
"#;
    let text = text.replace("OTHERS", &others.to_string());
    Source { name: "two kernels".into(), text, kernels: vec!["add_one".into(), "meet".into()] }
}

fn kernels(cuda: &mut Cuda) -> [KernelId; 2] {
    cuda.load(&source()).unwrap_or_else(|error| panic!("{error}")).try_into().unwrap()
}

const PLAIN: Geometry = Geometry { blocks: 4, threads: 64, shared_bytes: 0, cluster: 1, cooperative: false };

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn memory_begins_as_zeros_and_keeps_what_is_written() {
    let mut cuda = cuda();
    println!("{:?}", cuda.device());
    // More than what can be under way at once, and no multiple of anything.
    let data: Vec<u8> = (0..50_000_003u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (one, other) = (cuda.allocate(data.len()).unwrap(), cuda.allocate(data.len()).unwrap());
    let mut back = vec![1; data.len()];
    cuda.read(one, &mut back).unwrap();
    assert!(back.iter().all(|&b| b == 0));
    cuda.write(one, &data).unwrap();
    cuda.copy(one, other, data.len()).unwrap();
    cuda.clear(one, 1000).unwrap();
    cuda.read(other, &mut back).unwrap();
    assert!(back == data);
    cuda.read(one, &mut back).unwrap();
    assert!(back[..1000].iter().all(|&b| b == 0) && back[1000..] == data[1000..]);
    cuda.free(one);
    cuda.free(other);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn many_small_writes_arrive_in_their_order() {
    let mut cuda = cuda();
    let at = cuda.allocate(4 * 1000).unwrap();
    for round in 0..300 {
        for place in 0..1000u64 {
            cuda.write(at + 4 * place, &bytes(&[(round * 1000 + place) as f32])).unwrap();
        }
    }
    let expected: Vec<f32> = (0..1000).map(|place| (299_000 + place) as f32).collect();
    assert_eq!(read(&cuda, at, 1000), expected);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn what_is_written_beside_is_taken_whole_and_in_order_whatever_is_under_way() {
    const COUNT: usize = 200_000;
    const ROUNDS: usize = 30;
    let mut cuda = cuda();
    let large = 1 << 28;
    let [one, other, taken] = [large, large, 4 * COUNT * ROUNDS].map(|bytes| cuda.allocate(bytes).unwrap());
    assert!(cuda.take(one, other, 4).is_err(), "nothing was written beside");
    let busy = |cuda: &mut Cuda| (0..10).for_each(|_| cuda.copy(one, other, large).unwrap());
    let of = |round: usize| -> Vec<f32> { (0..COUNT).map(|i| (i % 1000 + 1000 * round) as f32).collect() };
    // Its zeros come behind all that is under way, and must not come behind what is written.
    busy(&mut cuda);
    let waiting = cuda.allocate(4 * COUNT).unwrap();
    for round in 0..ROUNDS {
        cuda.write_beside(waiting, &bytes(&of(round))).unwrap();
        // Now and then, what was written waits for its take; else the take for what is written.
        if round % 3 != 0 {
            busy(&mut cuda);
        }
        cuda.take(waiting, taken + (4 * COUNT * round) as u64, 4 * COUNT).unwrap();
    }
    cuda.begin_recording(1).unwrap();
    assert!(cuda.write_beside(waiting, &[0; 4]).is_err() && cuda.take(waiting, taken, 4).is_err());
    cuda.end_recording().unwrap();
    for round in 0..ROUNDS {
        assert!(read(&cuda, taken + (4 * COUNT * round) as u64, COUNT) == of(round), "round {round}");
    }
    // More than what can be under way at once.
    let much: Vec<u8> = (0..50_000_003u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    busy(&mut cuda);
    let room = cuda.allocate(much.len()).unwrap();
    cuda.write_beside(room, &much).unwrap();
    cuda.take(room, other, much.len()).unwrap();
    cuda.write_beside(room, &[7; 1000]).unwrap();
    let mut back = vec![0; much.len()];
    cuda.read(other, &mut back).unwrap();
    assert!(back == much);
    cuda.synchronize().unwrap();
    cuda.free(waiting);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn memory_that_there_is_not_is_refused_with_how_much_is_free() {
    let mut cuda = cuda();
    let wanted = 2 * cuda.device().memory_bytes as usize;
    let error = cuda.allocate(wanted).unwrap_err();
    assert!(matches!(error, DriverError::Memory { wanted: w, free } if w == wanted && free > 0), "{error}");
    cuda.allocate(1000).unwrap();
}

/// Where an operand lies: its numbers, the place of its first, its row, whether it is transposed.
struct Matrix {
    numbers: Vec<f32>,
    first: usize,
    row: usize,
    transposed: bool,
}

impl Matrix {
    fn new(rows: usize, columns: usize, first: usize, pad: usize, transposed: bool) -> Matrix {
        let (lying, row) = if transposed { (columns, rows + pad) } else { (rows, columns + pad) };
        Matrix { numbers: numbers(first + lying * row), first, row, transposed }
    }

    fn place(&self, row: usize, column: usize) -> usize {
        let (row, column) = if self.transposed { (column, row) } else { (row, column) };
        self.first + row * self.row + column
    }

    fn operand(&self, cuda: &mut Cuda) -> (Address, Operand) {
        let address = cuda.allocate(4 * self.numbers.len()).unwrap();
        cuda.write(address, &bytes(&self.numbers)).unwrap();
        let first = address + 4 * self.first as u64;
        (address, Operand { address: first, row: self.row, transposed: self.transposed })
    }
}

/// Runs a product and checks it, and that nothing else was written; TF32 holds such whole numbers exactly too.
fn check_product(cuda: &mut Cuda, [m, n, k]: [usize; 3], case: usize) {
    let bit = |place: usize| case >> place & 1 == 1;
    let (first, pad) = (if bit(0) { 1 } else { 0 }, if bit(1) { 3 } else { 0 });
    let a = Matrix::new(m, k, first, pad, bit(2));
    let b = Matrix::new(k, n, 2 * first, pad, bit(3));
    let c = Matrix::new(m, n, 3 * first, pad, bit(4));
    let accumulate = bit(5);
    let [(at_a, on_a), (at_b, on_b), (at_c, on_c)] = [&a, &b, &c].map(|matrix| matrix.operand(cuda));
    cuda.product(&Product { m, n, k, a: on_a, b: on_b, c: on_c, halves: false, accumulate }).unwrap();
    let mut expected = c.numbers.clone();
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k)
                .map(|l| f64::from(a.numbers[a.place(i, l)]) * f64::from(b.numbers[b.place(l, j)]))
                .sum();
            let place = c.place(i, j);
            expected[place] = sum as f32 + if accumulate { c.numbers[place] } else { 0.0 };
        }
    }
    let found = read(cuda, at_c, c.numbers.len());
    assert!(found == expected, "{m} x {k} x {n}, case {case:06b}");
    [at_a, at_b, at_c].into_iter().for_each(|address| cuda.free(address));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn products_are_right_for_all_layouts_and_alignments() {
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
        let mut cuda = Cuda::new(0, precision).unwrap();
        for sizes in
            [[1, 1, 1], [1, 64, 32], [64, 1, 32], [3, 5, 7], [48, 16, 4], [33, 65, 129], [64, 128, 2048]]
        {
            for case in 0..64 {
                check_product(&mut cuda, sizes, case);
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn products_repeat_bit_for_bit() {
    let mut cuda = cuda();
    // A weight gradient: a small result of long sums, in fractions.
    let (m, n, k) = (64, 96, 16384);
    let fractions = |count| -> Vec<f32> { numbers(count).iter().map(|v| (v + 0.3).sin()).collect() };
    let mut put = |numbers: &[f32]| {
        let address = cuda.allocate(4 * numbers.len()).unwrap();
        cuda.write(address, &bytes(numbers)).unwrap();
        address
    };
    let (a, b, c) = (put(&fractions(k * m)), put(&fractions(k * n)), put(&vec![0.0; m * n]));
    let operand = |address, row, transposed| Operand { address, row, transposed };
    let (a, b, c_operand) = (operand(a, m, true), operand(b, n, false), operand(c, n, false));
    let mut run = || {
        cuda.product(&Product { m, n, k, a, b, c: c_operand, halves: false, accumulate: false }).unwrap();
        read(&cuda, c, m * n)
    };
    let first = run();
    for _ in 0..20 {
        assert!(run() == first);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn kernels_run_when_launched_and_when_replayed() {
    let mut cuda = cuda();
    let [add_one, _] = kernels(&mut cuda);
    let values = cuda.allocate(4 * 256).unwrap();
    let args = Args { values, ..Args::default() };
    cuda.launch(add_one, &PLAIN, &args).unwrap();
    assert_eq!(read(&cuda, values, 256), [1.0; 256]);
    cuda.begin_recording(1).unwrap();
    cuda.launch(add_one, &PLAIN, &args).unwrap();
    cuda.launch(add_one, &Geometry { shared_bytes: 100_000, ..PLAIN }, &args).unwrap();
    assert!(cuda.synchronize().is_err(), "a recording cannot wait");
    let graph = cuda.end_recording().unwrap();
    assert_eq!(read(&cuda, values, 256), [1.0; 256]);
    cuda.replay(graph).unwrap();
    cuda.replay(graph).unwrap();
    assert_eq!(read(&cuda, values, 256), [5.0; 256]);
    // One that was given up.
    cuda.begin_recording(1).unwrap();
    cuda.launch(add_one, &PLAIN, &args).unwrap();
    cuda.begin_recording(1).unwrap();
    cuda.clear(values, 4 * 128).unwrap();
    let graph = cuda.end_recording().unwrap();
    cuda.replay(graph).unwrap();
    assert_eq!(read(&cuda, values, 256), [[0.0; 128], [5.0; 128]].concat());
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn products_are_recorded_even_when_their_shape_is_new() {
    let mut cuda = cuda();
    let memory = cuda.allocate(4 * 300).unwrap();
    cuda.write(memory, &bytes(&[1.0; 200])).unwrap();
    let operand = |place: u64| Operand { address: memory + 4 * place, row: 10, transposed: false };
    let (a, b, c) = (operand(0), operand(100), operand(200));
    cuda.begin_recording(1).unwrap();
    cuda.product(&Product { m: 10, n: 10, k: 10, a, b, c, halves: false, accumulate: true }).unwrap();
    let graph = cuda.end_recording().unwrap();
    assert_eq!(read(&cuda, memory + 800, 100), [0.0; 100]);
    cuda.replay(graph).unwrap();
    cuda.replay(graph).unwrap();
    assert_eq!(read(&cuda, memory + 800, 100), [20.0; 100]);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn blocks_that_wait_for_each_other_run_if_all_fit_and_are_refused_if_not() {
    let mut cuda = cuda();
    let [_, meet] = kernels(&mut cuda);
    let multiprocessors = cuda.device().multiprocessors;
    let (values, counters) = (cuda.allocate(4 * 100_000).unwrap(), cuda.allocate(128).unwrap());
    let args = Args { values, counters, ..Args::default() };
    // So much shared memory that a multiprocessor has room for one block.
    let shared_bytes = cuda.device().shared_bytes;
    let one = Geometry { blocks: multiprocessors, threads: 256, shared_bytes, cluster: 1, cooperative: true };
    assert_eq!(cuda.occupancy(meet, &one).unwrap(), multiprocessors);
    cuda.launch(meet, &one, &args).unwrap();
    assert_eq!(read(&cuda, values, multiprocessors), vec![multiprocessors as f32; multiprocessors]);
    let more = Geometry { blocks: multiprocessors + 1, ..one };
    let error = cuda.launch(meet, &more, &args).unwrap_err();
    let expected = DriverError::Resident {
        what: "blocks",
        name: "meet".into(),
        wanted: multiprocessors + 1,
        fit: multiprocessors,
    };
    assert_eq!(error, expected);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn clusters_run_where_the_device_has_them() {
    let mut cuda = cuda();
    let [add_one, meet] = kernels(&mut cuda);
    let largest = cuda.device().cluster;
    let (values, counters) = (cuda.allocate(4 * 1024).unwrap(), cuda.allocate(128).unwrap());
    let args = Args { values, counters, ..Args::default() };
    for cluster in [2, 4, 8, 16].into_iter().filter(|&cluster| cluster <= largest) {
        let geometry = Geometry { blocks: 16, cluster, ..PLAIN };
        let fit = cuda.occupancy(add_one, &geometry).unwrap();
        println!("clusters of {cluster}: {fit} blocks");
        assert!(fit >= cluster && fit % cluster == 0);
        cuda.clear(values, 4 * 1024).unwrap();
        cuda.launch(add_one, &geometry, &args).unwrap();
        assert_eq!(read(&cuda, values, 1024), [1.0; 1024]);
        // Both at once, and recorded.
        cuda.begin_recording(1).unwrap();
        cuda.clear(counters, 4).unwrap();
        cuda.launch(meet, &Geometry { cooperative: true, ..geometry }, &args).unwrap();
        let graph = cuda.end_recording().unwrap();
        cuda.replay(graph).unwrap();
        assert_eq!(read(&cuda, values, 16), [16.0; 16]);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_source_that_does_not_compile_is_an_error_with_the_compilers_words() {
    let error = cuda().load(&Source { text: "extern \"C\" float f() { return x; }".into(), ..source() });
    let text = error.unwrap_err().to_string();
    assert!(text.contains("`two kernels` does not compile") && text.contains("identifier \"x\""), "{text}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_driver_may_move_to_another_thread() {
    let mut cuda = cuda();
    let at = cuda.allocate(4).unwrap();
    let thread = std::thread::spawn(move || {
        cuda.write(at, &bytes(&[3.0])).unwrap();
        read(&cuda, at, 1)
    });
    assert_eq!(thread.join().unwrap(), [3.0]);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_gpu_that_there_is_not_is_an_error() {
    let error = Cuda::new(1000, Precision::F32).err().unwrap();
    assert!(error.to_string().starts_with("there is no GPU 1000: this machine has "), "{error}");
}

/// A context of the first GPU that is not its primary one, current on this thread while it lives.
struct OtherContext(cudarc::driver::sys::CUcontext);

#[allow(unsafe_code)] // calls into NVIDIA's driver
impl OtherContext {
    fn new() -> OtherContext {
        let mut context = std::ptr::null_mut();
        // SAFETY: a driver was made before, so that NVIDIA's is there and started; device 0 is.
        let result = unsafe { cudarc::driver::sys::cuCtxCreate_v4(&mut context, std::ptr::null_mut(), 0, 0) };
        assert_eq!(result, cudarc::driver::sys::CUresult::CUDA_SUCCESS);
        OtherContext(context)
    }

    fn current() -> cudarc::driver::sys::CUcontext {
        let mut context = std::ptr::null_mut();
        // SAFETY: as above.
        let result = unsafe { cudarc::driver::sys::cuCtxGetCurrent(&mut context) };
        assert_eq!(result, cudarc::driver::sys::CUresult::CUDA_SUCCESS);
        context
    }
}

#[allow(unsafe_code)] // as above
impl Drop for OtherContext {
    fn drop(&mut self) {
        // SAFETY: it was created, and nothing of it is used.
        let _ = unsafe { cudarc::driver::sys::cuCtxDestroy_v2(self.0) };
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn the_callers_context_is_current_again_behind_each_call_and_behind_errors() {
    let mut cuda = cuda();
    let other = OtherContext::new();
    let at = cuda.allocate(4 * 256).unwrap();
    assert!(cuda.allocate(1 << 60).is_err());
    cuda.write(at, &bytes(&[2.0; 256])).unwrap();
    let [add_one, _] = kernels(&mut cuda);
    assert_eq!(OtherContext::current(), other.0);
    cuda.begin_recording(1).unwrap();
    cuda.launch(add_one, &PLAIN, &Args { values: at, ..Args::default() }).unwrap();
    let graph = cuda.end_recording().unwrap();
    cuda.replay(graph).unwrap();
    assert_eq!(OtherContext::current(), other.0);
    assert_eq!(read(&cuda, at, 256), [3.0; 256]);
    cuda.forget(graph).unwrap();
    assert!(cuda.replay(graph).is_err());
    assert!(cuda.launch(KernelId(99), &PLAIN, &Args::default()).is_err());
    assert_eq!(OtherContext::current(), other.0);
    drop(cuda);
    assert_eq!(OtherContext::current(), other.0);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn commands_go_to_a_stream_of_the_callers_and_recordings_are_made_apart_from_it() {
    use rnnc_cuda::driver::StreamHandle;
    // The default stream cannot be captured.
    let mut cuda = Cuda::on(0, Precision::F32, Some(StreamHandle::DEFAULT)).unwrap();
    let at = cuda.allocate(4 * 256).unwrap();
    cuda.write(at, &bytes(&[2.0; 256])).unwrap();
    let [add_one, _] = kernels(&mut cuda);
    cuda.begin_recording(2).unwrap();
    cuda.launch(add_one, &PLAIN, &Args { values: at, ..Args::default() }).unwrap();
    let graph = cuda.end_recording().unwrap();
    cuda.replay(graph).unwrap();
    cuda.launch(add_one, &PLAIN, &Args { values: at, ..Args::default() }).unwrap();
    assert_eq!(cuda.capture(StreamHandle::DEFAULT).unwrap(), None);
    assert_eq!(read(&cuda, at, 256), [4.0; 256]);
}
