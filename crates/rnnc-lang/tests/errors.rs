//! What each wrong text is told. Every message says what is wrong and what to write instead.

/// The errors of a text that is none, without colour.
fn rejected(text: &str) -> String {
    match rnnc_lang::compile("net.rnn", text, None) {
        Ok(_) => panic!("this text was taken:\n{text}"),
        Err(errors) => errors.to_string(),
    }
}

macro_rules! rejected {
    ($($name:ident: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(rejected($text));
        }
    )*};
}

#[test]
fn a_wrong_option_of_a_cell_of_the_library_is_told_once() {
    // Not for each of the four gates that it is the size of.
    let errors = rejected("network n { input x : vector(3)  h = lstm(x; 4.5)  g = gru(x; 0)  output h, g }");
    assert_eq!(errors.matches("error: ").count(), 2, "{errors}");
    assert!(
        errors.contains("in this call of `lstm`") && errors.contains("in this call of `gru`"),
        "{errors}"
    );
}

// What cannot be read.
rejected! {
    an_empty_text_has_no_network: "";
    a_text_of_cells_has_no_network: "cell f(x) { return x }";
    a_character_from_outside_the_language_is_shown: "network n {\n    input x : vector(3)\n    y = tanh(x) § 2\n    output y\n}";
    a_missing_brace_is_missed_at_the_end: "network n {\n    input x : vector(3)\n    output x\n";
    a_missing_operand_is_asked_for: "network n {\n    input x : vector(3)\n    y = x + * 2\n    output y\n}";
    a_call_that_is_not_closed_is_asked_to_be: "network n {\n    input x : vector(3)\n    y = tanh(x\n    z = x\n    output y\n}";
    a_word_of_the_language_cannot_be_defined: "network n {\n    input x : vector(3)\n    start = 2 + x\n    output x\n}";
    a_word_of_the_language_is_no_name: "network n {\n    input x : vector(3)\n    y = dense(x, start; 3)\n    output y\n}";
    an_equation_needs_its_sign: "network n {\n    input x : vector(3)\n    y tanh(x)\n    output y\n}";
    an_index_is_about_t: "network n {\n    input x : vector(3)\n    y = x[s-1]\n    output y\n}";
    only_names_are_read_in_other_frames: "network n {\n    input x : vector(3)\n    y = tanh(x)[t-1]\n    output y\n}";
    an_input_is_a_vector_or_symbol: "network n {\n    input x : matrix(3)\n    output x\n}";
    errors_in_several_blocks_are_all_told: "cell f(x) { y = }\ncell g(x) { return x }\nnetwork n { input x : vector(3)  y = (x  output y }";
    brackets_nest_only_so_deep: &format!("network n {{\n    input x : vector(3)\n    y = {}x\n    output y\n}}", "(".repeat(250));
    a_newer_version_is_refused_by_name: "rnn 2\nnetwork n { input x : vector(3)  output x }";
    a_version_is_a_number: "rnn one\nnetwork n { input x : vector(3)  output x }";
    stray_text_between_blocks_is_marked: "input x : vector(3)\nnetwork n { output x }";
    a_number_past_single_precision_is_told: "network n { input x : vector(3)  y = 1e39 * x  output y }";
    a_number_that_single_precision_takes_for_0_is_told: "network n { input x : vector(3)  y = x / 1e-46  output y }";
    a_subnormal_number_is_told: "network n { input x : vector(3)  y = log(x + 1e-40)  output y }";
    a_product_of_numbers_past_single_precision_is_told: "network n { input x : vector(3)  y = 1e30 * 1e30 * x  output y }";
    a_start_past_single_precision_is_told: "network n { input x : vector(3)  y = x + y[t-1]  start y = -1e39  output y }";
    an_initial_value_past_single_precision_is_told: "network n { input x : vector(3)  y = dense(x; 3, bias = 1e39)  output y }";
    a_number_can_be_too_large: "network n { input x : vector(3)  y = 1e999 * x  output y }";
}

// Names.
rejected! {
    an_unknown_name_gets_the_nearest: "network n {\n    input text : symbol(256)\n    hidden = lstm(text; 64)\n    y = dense(hiden; 256)\n    output y\n}";
    an_unknown_name_far_from_all_gets_their_list: "network n {\n    input x : vector(3)\n    y = tanh(qwerty)\n    output y\n}";
    an_unknown_function_gets_the_nearest: "network n {\n    input x : vector(3)\n    y = tahn(x)\n    output y\n}";
    an_unknown_cell_gets_the_nearest: "network n {\n    input x : vector(3)\n    y = lsmt(x; 4)\n    output y\n}";
    an_unknown_reversed_cell_is_a_cell: "network n {\n    input x : vector(3)\n    y = reversed nothing_like_it(x; 4)\n    output y\n}";
    a_name_defined_twice_shows_both: "network n {\n    input x : vector(3)\n    y = tanh(x)\n    y = sigmoid(x)\n    output y\n}";
    a_cell_defined_twice_shows_both: "cell f(x) { return x }\ncell f(x) { return x }\nnetwork n { input x : vector(3)  output x }";
    a_network_defined_twice_shows_both: "network n { input x : vector(3)  output x }\nnetwork n { input x : vector(3)  output x }";
    an_output_given_twice_shows_both: "network n {\n    input x : vector(3)\n    y = tanh(x)\n    output y\n    output y\n}";
    a_cell_cannot_take_the_name_of_a_function: "cell tanh(x) { return x }\nnetwork n { input x : vector(3)  output x }";
    a_layer_that_is_not_inside_gets_the_nearest: "network n {\n    input x : vector(3)\n    h1 = lstm(x; 4)\n    y = tanh(h1.cc)\n    output y\n}";
    an_equation_has_nothing_inside: "network n {\n    input x : vector(3)\n    a = tanh(x)\n    y = tanh(a.c)\n    output y\n}";
    names_of_a_cell_are_its_own: "cell f(x) {\n    y = x + w\n    return y\n}\nnetwork n {\n    input x : vector(3)\n    w = tanh(x)\n    y = f(x)\n    output y\n}";
    a_name_that_stands_for_itself_is_found: "cell same(x) { return x }\nnetwork n {\n    input x : vector(3)\n    a = same(b)\n    b = same(a)\n    y = tanh(a)\n    output y\n}";
    two_cells_of_one_name_are_told_apart: "cell outer(x; n) {\n    gru = elman(x; n)\n    return gru\n}\nnetwork n {\n    input x : vector(3)\n    y = outer(gru(x; 4); 4)\n    output y\n}";
    a_layer_that_a_cell_does_not_return_is_read_inside: "network n {\n    input x : vector(3)\n    h, c, o = lstm(x; 4)\n    output o\n}";
    several_networks_ask_which: "network a { input x : vector(3)  output x }\nnetwork b { input x : vector(3)  output x }";
    a_name_can_be_too_long: &format!("network n {{ input x : vector(3)  {} = tanh(x)  output x }}", "a".repeat(1001));
}

// Calls and options.
rejected! {
    too_many_inputs_of_a_cell_are_marked: "network n {\n    input x : vector(3)\n    y = lstm(x, 256)\n    output y\n}";
    too_few_inputs_of_a_cell_are_told: "network n {\n    input x : vector(3)\n    y = lstm(; 256)\n    output y\n}";
    too_many_inputs_of_a_function_are_marked: "network n {\n    input x : vector(3)\n    y = relu(x, x)\n    output y\n}";
    too_few_inputs_of_a_function_are_told: "network n {\n    input x : vector(3)\n    y = max(x)\n    output y\n}";
    a_parameter_has_one_size: "network n {\n    input x : vector(3)\n    w = param(3, 3)\n    output w\n}";
    a_parameter_has_a_size: "network n {\n    input x : vector(3)\n    w = param(; zeros)\n    output w\n}";
    a_missing_option_is_named: "network n {\n    input x : vector(3)\n    y = dense(x)\n    output y\n}";
    a_missing_option_of_a_cell_is_named: "network n {\n    input x : vector(3)\n    y = lstm(x)\n    output y\n}";
    an_unknown_option_gets_the_nearest: "network n {\n    input x : vector(4)\n    y = dense(x; 4, head = 2)\n    output y\n}";
    an_option_of_a_function_without_options_is_wrong: "network n {\n    input x : vector(4)\n    y = tanh(x; 4)\n    output y\n}";
    an_option_given_twice_shows_both: "network n {\n    input x : vector(4)\n    y = dense(x; 4, n = 5)\n    output y\n}";
    an_option_without_a_name_comes_first: "network n {\n    input x : vector(4)\n    y = dense(x; n = 4, none)\n    output y\n}";
    a_size_is_a_whole_number: "network n {\n    input x : vector(4)\n    y = dense(x; 2.5)\n    output y\n}";
    a_size_is_not_zero: "network n {\n    input x : vector(0)\n    output x\n}";
    a_size_fits_the_graph: "network n {\n    input x : vector(4)\n    y = dense(x; 3000000000)\n    output y\n}";
    a_size_is_a_constant: "network n {\n    input x : vector(4)\n    y = dense(x; x)\n    output y\n}";
    a_size_has_no_delay: "network n {\n    input x : vector(4)\n    y = dense(x; x[t-1])\n    output y\n}";
    a_size_that_is_no_number_is_told: "network n {\n    input x : vector(4)\n    y = dense(x; none)\n    output y\n}";
    a_delay_is_a_whole_number: "network n {\n    input x : vector(4)\n    y = x[t-0.5]\n    output y\n}";
    a_delay_is_not_too_long: "network n {\n    input x : vector(4)\n    y = x[t-1e10]\n    output y\n}";
    a_delay_that_rounding_has_missed_is_told: "network n {\n    input x : vector(4)\n    y = x[t-(0.1+0.2)*10]\n    output y\n}";
    a_size_that_rounding_has_missed_is_told: "network n {\n    input x : vector(4)\n    y = dense(x; (0.1+0.2)*10)\n    output y\n}";
    a_constant_division_by_zero_is_found: "network n {\n    input x : vector(4)\n    y = x / (1 - 1)\n    output y\n}";
    a_constant_that_is_not_a_number_is_found: "network n {\n    input x : vector(4)\n    y = x * log(-1)\n    output y\n}";
    an_init_is_an_initialization: "network n {\n    input x : vector(4)\n    y = dense(x; 4, init = 0.1)\n    output y\n}";
    an_init_that_is_unknown_gets_the_list: "network n {\n    input x : vector(4)\n    y = dense(x; 4, init = foo)\n    output y\n}";
    an_init_has_its_number: "network n {\n    input x : vector(4)\n    y = dense(x; 4, init = uniform)\n    output y\n}";
    an_init_has_no_more_than_its_number: "network n {\n    input x : vector(4)\n    y = dense(x; 4, init = uniform(0, 1))\n    output y\n}";
    an_init_in_the_place_of_a_number_is_named: "network n {\n    input x : vector(4)\n    y = dense(x; 4, 1, orthogonal)\n    output y\n}";
    a_bias_is_no_layer: "network n {\n    input x : vector(4)\n    y = dense(x; 4, bias = param(4))\n    output y\n}";
    an_option_of_a_cell_is_no_layer: "network n {\n    input x : vector(4)\n    y = lstm(x; x[t-1])\n    output y\n}";
    an_init_is_spelt_right: "network n {\n    input x : vector(4)\n    y = dense(x; 4, init = unifrom(0.1))\n    output y\n}";
    a_spread_is_not_negative: "network n {\n    input x : vector(4)\n    y = dense(x; 4, init = normal(-1))\n    output y\n}";
    a_bias_is_always_learned: "network n {\n    input x : vector(4)\n    y = dense(x; 4, bias = learned)\n    output y\n}";
    affine_is_none_or_learned: "network n {\n    input x : vector(4)\n    y = layer_norm(x; affine = 3)\n    output y\n}";
    a_dropout_is_a_probability: "network n {\n    input x : vector(4)\n    y = dropout(x; 1)\n    output y\n}";
    an_option_without_a_number_is_no_value: "cell f(x; b = none) {\n    y = x + b\n    return y\n}\nnetwork n {\n    input x : vector(4)\n    y = f(x)\n    output y\n}";
    an_option_is_the_same_in_all_frames: "cell f(x; k = 1) {\n    y = x + k[t-1]\n    return y\n}\nnetwork n {\n    input x : vector(4)\n    y = f(x)\n    output y\n}";
    only_cells_are_reversed: "network n {\n    input x : vector(4)\n    y = reversed tanh(x)\n    output y\n}";
    only_cells_give_several_values: "network n {\n    input x : vector(4)\n    a, b = tanh(x)\n    output a\n}";
    a_cell_gives_only_so_many_values: "network n {\n    input x : vector(4)\n    a, b = gru(x; 4)\n    output a\n}";
}

// Blocks.
rejected! {
    a_network_without_output_is_none: "network n {\n    input x : vector(3)\n    y = tanh(x)\n}";
    a_cell_returns_something: "cell f(x) { y = tanh(x) }\nnetwork n { input x : vector(3)  y = f(x)  output y }";
    a_cell_returns_once: "cell f(x) { return x return x }\nnetwork n { input x : vector(3)  output x }";
    a_cell_returns_names: "cell f(x) { return tanh(x) }\nnetwork n { input x : vector(3)  y = f(x)  output y }";
    a_cell_has_no_input_lines: "cell f(x) { input y : vector(3)  return x }\nnetwork n { input x : vector(3)  output x }";
    a_cell_has_no_output: "cell f(x) { output x  return x }\nnetwork n { input x : vector(3)  output x }";
    a_network_does_not_return: "network n { input x : vector(3)  output x  return x }";
    an_output_is_of_the_same_frame: "network n { input x : vector(3)  output x[t-1] }";
    a_start_is_a_number_or_learned: "network n {\n    input x : vector(3)\n    y = tanh(x)\n    start y = none\n    output y\n}";
    a_start_is_no_parameter: "network n {\n    input x : vector(3)\n    y = tanh(x + y[t-1])\n    start y = param(3)\n    output y\n}";
    a_start_is_no_layer: "network n {\n    input x : vector(3)\n    first = tanh(x)\n    y = tanh(x + y[t-1])\n    start y = first\n    output y\n}";
    a_start_belongs_to_an_equation: "network n {\n    input x : vector(3)\n    start x = 1\n    output x\n}";
    a_start_gets_the_nearest_equation: "network n {\n    input x : vector(3)\n    hidden = tanh(x)\n    start hiden = 1\n    output hidden\n}";
    a_start_is_set_once: "network n {\n    input x : vector(3)\n    y = tanh(x)\n    start y = 1\n    start y = 2\n    output y\n}";
    a_start_of_what_a_cell_returns_is_inside: "network n {\n    input x : vector(3)\n    h = lstm(x; 4)\n    start h = 1\n    output h\n}";
    a_start_of_what_a_cell_of_the_text_returns_is_inside: "cell f(x) { y = x + y[t-1]  return y }\nnetwork n {\n    input x : vector(3)\n    h = f(x)\n    start h = 1\n    output h\n}";
    a_cell_that_calls_itself_names_the_chain: "cell a(x) { y = b(x)  return y }\ncell b(x) { y = c(x)  return y }\ncell c(x) { y = a(x)  return y }\nnetwork n { input x : vector(3)  y = a(x)  output y }";
    a_cell_may_not_call_itself_directly: "cell a(x) { y = a(x)  return y }\nnetwork n { input x : vector(3)  y = a(x)  output y }";
    cells_that_double_at_every_level_run_out_of_layers: &doubling(30);
}

// Sizes and symbols.
rejected! {
    sizes_that_do_not_fit_show_where_each_comes_from: "network n {\n    input x : vector(3)\n    a = tanh(dense(x; 4))\n    b = sigmoid(dense(x; 5))\n    y = a * b\n    output y\n}";
    sizes_that_do_not_fit_show_inputs: "network n {\n    input x : vector(3)\n    input y : vector(4)\n    z = x + y\n    output z\n}";
    sizes_that_do_not_fit_in_a_cell_show_the_call: "network n {\n    input x : vector(3)\n    h = sru(x; 4)\n    output h\n}";
    a_size_that_follows_from_nothing_names_the_cycle: "network n {\n    input x : vector(3)\n    a = tanh(b[t-1])\n    b = 0.5 * a\n    y = x + a\n    output y\n}";
    a_cycle_of_a_number_and_nothing_else_is_told_how_to_size_it: "network n {\n    input x : vector(3)\n    now = now[t-1] + 1\n    output now\n}";
    a_single_unit_does_not_divide: "network n {\n    input x : vector(1)\n    y = softmax(x; groups = 3)\n    output y\n}";
    a_slice_ends_inside: "network n {\n    input x : vector(4)\n    y = slice(x; 2, 5)\n    output y\n}";
    a_slice_is_not_empty: "network n {\n    input x : vector(4)\n    y = slice(x; 2, 2)\n    output y\n}";
    a_broadcast_repeats_evenly: "network n {\n    input x : vector(4)\n    y = broadcast(x; 6)\n    output y\n}";
    groups_have_more_than_one_unit: "network n {\n    input x : vector(3)\n    y = layer_norm(x; 3)\n    output y\n}";
    groups_divide_the_units: "network n {\n    input x : vector(4)\n    y = softmax(x; groups = 3)\n    output y\n}";
    heads_divide_the_units_written: "network n {\n    input x : vector(6)\n    y = dense(x; 4, heads = 3)\n    output y\n}";
    heads_divide_the_units_read: "network n {\n    input x : vector(4)\n    y = dense(x; 6, heads = 3)\n    output y\n}";
    a_symbol_has_no_heads: "network n {\n    input x : symbol(4)\n    y = dense(x; 4, heads = 2)\n    output y\n}";
    a_symbol_is_no_vector: "network n {\n    input x : symbol(256)\n    y = tanh(x)\n    output y\n}";
    a_symbol_is_no_vector_inside_a_cell_either: "network n {\n    input x : symbol(4)\n    y = sru(x; 4)\n    output y\n}";
    a_symbol_is_no_output: "network n {\n    input x : symbol(256)\n    y = dense(x; 4)\n    output x, y\n}";
    a_matrix_fits_a_machine: "network n {\n    input x : vector(2000000000)\n    y = dense(x; 2000000000)\n    output y\n}";
    a_vector_fits_the_graph: "network n {\n    input x : vector(2000000000)\n    y = concat(x, x)\n    output y\n}";
}

// Cycles.
rejected! {
    a_cycle_without_delay_names_its_equations: "network n {\n    input x : vector(3)\n    a = tanh(x + c)\n    b = 2 * a\n    c = b * b + 1\n    output c\n}";
    an_equation_may_not_read_itself_in_the_same_frame: "network n {\n    input x : vector(3)\n    a = tanh(x + a)\n    output a\n}";
    a_cycle_inside_a_cell_without_delay_is_shown_there: "cell f(x; n) {\n    h = tanh(dense(x, g; n))\n    g = sigmoid(dense(h; n))\n    return h\n}\nnetwork n {\n    input x : vector(3)\n    y = f(x; 4)\n    output y\n}";
    cycles_with_delays_of_both_signs_show_both: "network n {\n    input x : vector(3)\n    a = tanh(x + a[t-1] + b[t+1])\n    b = tanh(a)\n    output b\n}";
}

/// A chain of cells, each of which calls the one before twice.
fn doubling(levels: usize) -> String {
    let mut text = String::from("cell f0(x) { y = tanh(x)  return y }\n");
    for level in 1..=levels {
        let below = level - 1;
        text += &format!("cell f{level}(x) {{ a = f{below}(x)  b = f{below}(a)  return b }}\n");
    }
    text + &format!("network n {{ input x : vector(3)  y = f{levels}(x)  output y }}")
}

#[test]
fn an_unknown_network_gets_the_nearest() {
    let text =
        "network left { input x : vector(3)  output x }\nnetwork right { input x : vector(3)  output x }";
    insta::assert_snapshot!(rnnc_lang::compile("net.rnn", text, Some("rigth")).unwrap_err().to_string());
}

#[test]
fn an_error_met_in_many_instances_is_told_once() {
    let text = "cell f(x) { y = tanh(nix)  return y }
        network n { input x : vector(3)  a = f(x)  b = f(x)  c = f(x)  output a }";
    assert_eq!(rnnc_lang::compile("net.rnn", text, None).unwrap_err().diagnostics().len(), 1);
}

#[test]
fn many_errors_are_counted_after_the_first_twenty() {
    let equations: String = (0..50).map(|i| format!("y{i} = tanh(unknown_{i})\n")).collect();
    let text = format!("network n {{ input x : vector(3) {equations} output y0 }}");
    let errors = rnnc_lang::compile("net.rnn", &text, None).unwrap_err();
    assert_eq!(errors.diagnostics().len(), 50);
    assert!(errors.to_string().ends_with("... and 30 more errors"));
}

#[test]
fn colour_is_only_there_when_asked_for() {
    let errors = rnnc_lang::compile("net.rnn", "network n { output y }", None).unwrap_err();
    assert!(errors.render(true).contains('\u{1b}'));
    assert!(!errors.render(false).contains('\u{1b}'));
}

/// What is said of an equation for `h` beside an input `x` of 3 units.
fn said_of(equation: &str) -> String {
    rejected(&format!("network n {{\n    input x : vector(3)\n    {equation}\n    output h\n}}"))
}

#[test]
fn what_is_written_otherwise_elsewhere_is_answered_with_how_it_is_written_here() {
    let previous = "the frame before is written `h[t-1]`";
    let product = "a product, unit by unit, is written `*`";
    let power = "a square is `square(x)` or `x * x`";
    let cases = [
        // Reads in other frames.
        ("h = tanh(dense(x, h[-1]; 4))", previous),
        ("h = tanh(dense(x, h[1]; 4))", previous),
        ("h = tanh(dense(x, h[n-1]; 4))", previous),
        ("h = tanh(dense(x, h_{t-1}; 4))", previous),
        ("h = tanh(dense(x, h[t]; 4))", "such as `h[t-1]`"),
        ("h = tanh(dense(x, h(t-1); 4))", "in square brackets: `h[t-1]`"),
        ("h = tanh(dense(x, h[t - 1.5]; 4))", "write `h[t-1]`"),
        ("h = tanh(dense(x, h_prev; 4))", "the value of another frame is written `h[t-1]`"),
        ("h = tanh(dense(x, h_tm1; 4))", "the value of another frame is written `h[t-1]`"),
        ("h = tanh(dense(x_t, h[t-1]; 4))", "`x` is its value in the frame t itself"),
        ("h[t] = tanh(x)", "its name stands alone: `h = ...`"),
        ("h[0] = 0", "`start h = 0`"),
        ("h = x[0:2]", "some units of a vector are `slice(x; from, to)`"),
        // Functions and options of libraries.
        ("h = LSTM(x; 4)", "did you mean `lstm`?"),
        ("h = Lstm(x, 64)", "did you mean `lstm`?"),
        ("h = Dense(x; 4)", "did you mean `dense`?"),
        ("h = Tanh(x)", "did you mean `tanh`?"),
        ("h = ReLU(x)", "did you mean `relu`?"),
        ("h = linear(x; 4)", "`dense(x; n)` is a weight matrix"),
        ("h = Linear(x; 4)", "`dense(x; n)` is a weight matrix"),
        ("h = nn.Linear(x; 4)", "functions belong to nothing"),
        ("h = Linear(3, 4)(x)", "in one pair of brackets"),
        ("h = cat(x, x)", "`concat(a, b)`"),
        ("h = dense([x, x]; 4)", "`concat(a, b)`"),
        ("h = pow(x, 2)", power),
        ("h = sgn(x)", "it is called `sign`"),
        ("h = heaviside(x)", "write `x > 0`"),
        ("h = clip(x, 0, 1)", "`clamp(x; lo, hi)`"),
        ("h = tan(x)", "`sin(x) / cos(x)`"),
        ("h = x + ones(3)", "`broadcast(1; n)`"),
        ("h = lstm(x, 4)", "inputs stand before the `;`, sizes and other options after it"),
        ("h = lstm(x, hidden_size = 4)", "write `;` before `hidden_size`"),
        ("h = lstm(x; hidden_size = 4)", "the number of units is its option `n`"),
        ("h = dense(x; 4, bias = False)", "`bias = none`"),
        ("h = tanh(W * x)", "weights need none: `dense(x; n)`"),
        ("h = x * pi", "write 3.14159265"),
        // Signs.
        ("h = σ(x)", "`sigmoid(x)`"),
        ("h = x ** 2", power),
        ("h = x ^ 2", power),
        ("h = W @ x", "`dense(x; n)`"),
        ("h = x % 2", "the remainder is `mod(a, b)`"),
        ("h = 0 < x < 1", "one comparison at a time"),
        ("h = (0 < x) & (x < 1)", "comparisons are 0 or 1"),
        ("h = x > 0 ? x : 0", "a choice is `where(a > b, a, b)`"),
        ("h = clamp(x)", "clamp(a; lo, hi)"),
        ("h = clamp(x; 1, -1)", "there are no numbers between 1 and -1"),
        ("h = where(x > 0, x)", "where(a > b, a, b)"),
        ("h = mod(x)", "mod(a, b)"),
        ("h = step(x; surrogate = relu(1))", "there is no surrogate `relu`"),
        ("h = step(x; surrogate = 2)", "a surrogate is `atan(2)`"),
        ("h = step(x; surrogate = sigmoid(-1))", "a surrogate's slope is larger than 0"),
        ("h = rms_norm(x; epsilon = 0)", "an epsilon is larger than 0"),
        ("h = x >", "expected an expression"),
        ("h == tanh(x)", "an equation has one `=`"),
        ("h := tanh(x)", "written with `=`"),
        ("h <- tanh(x)", "a name, `=` and an expression"),
        ("h tanh(x)", "a name, `=` and an expression"),
        ("let h = tanh(x)", "leave out `let`"),
        ("h = x − 1", "write `-`"),
        ("h = x ⊙ x", product),
        ("h = x × 2", product),
        ("h = x（1）", "this looks like `(`"),
        ("h\u{a0}= x", "write a space"),
        ("h = dense(x; 4, init = “glorot”)", "words stand without quotes"),
        ("h = dense(x; 4, init = \"glorot\")", "`\"` is not part of the language"),
        ("h = \\tanh(x)", "`tanh(x)`"),
        ("h = tanh(x) // a", "a comment begins with `#`"),
        ("h = tanh(x) /* a */", "a comment begins with `#`"),
        ("h = tanh(x);", "leave out `;`"),
        ("h = dense(x x; 4)", "is a `,` missing before `x`?"),
        ("h = tanh((x)", "is a `)` missing?"),
        ("h = tanh(x))", "is this `)` one too many"),
        // Numbers.
        ("h = 0.5f * x", "`f` is stuck to the number 0.5"),
        ("h = 1_000 * x", "`_000` is stuck to the number 1"),
        ("h = .5 * x", "write `0.5`"),
        ("h = 5. * x", "write `5.0`"),
        ("h = 1e400 * x", "a number too large to hold"),
        // Blocks and calls.
        ("h += x", "`h = h[t-1] + ...`"),
        ("h *= x", "`h = h[t-1] * ...`"),
        ("h.c = x", "a name without a dot"),
        ("h + 1", "a name, `=` and an expression"),
        ("input = 2 * x", "`input` is a word of the language"),
        ("output = 2 * x", "`output` is a word of the language"),
        ("return = x", "`return` is a word of the language"),
        ("cell = x", "`cell` is a word of the language"),
        ("h, start = lstm(x; 4)", "`start` is a word of the language"),
        ("h = reversed x", "`reversed lstm(x; 4)`"),
        ("h = reversed (x)", "`reversed lstm(x; 4)`"),
        ("start h 1", "`start h = 0`"),
        ("h = (x, x)", "`concat(a, b)`"),
        // Inputs and outputs.
        ("input z : vector 3", "a size stands in brackets: `vector(3)`"),
        ("input z : symbol 256", "a size stands in brackets: `symbol(256)`"),
        ("input z : vector(3, 4)", "write `vector(12)`"),
        ("input z : vector((1 + 2), 4)", "an input has one size"),
        ("input z : symbol(3, 4)", "how many symbols there are"),
        ("input z", "`input z : vector(3)`"),
        ("input z[3]", "`input z : vector(3)`"),
        ("input z : 3", "an input is `vector(3)`"),
        ("output tanh(x)", "an output is a name"),
        ("output y = tanh(x)", "write `output y`"),
        ("output y > 0", "an output is a name"),
    ];
    for (equation, help) in cases {
        let said = said_of(equation);
        assert!(said.contains(help), "{equation}\n{said}");
    }
    for (text, help) in [
        ("network n:\n    input x : vector(3)", "a block stands in braces"),
        ("network n(x) { output x }", "`network n { input x : vector(3) ... }`"),
        ("network { input x : vector(3)  output x }", "a network has a name"),
        ("cell (x) { return x }", "a cell has a name"),
        ("cell f { return x }", "`cell f(x; n) { ... }`"),
        ("cell f(x) return x", "a block stands in braces"),
        ("def n(x):\n    return x", "`cell NAME(inputs; options) { ... }`"),
    ] {
        let said = rejected(text);
        assert!(said.contains(help), "{text}\n{said}");
    }
}

#[test]
fn whatever_token_is_missing_or_too_much_its_message_says_what_to_write() {
    let text = "cell f ( x , y ; n , k = 2 ) { start h = 0 h , c = dense ( x , h [ t - k ] . c ; n , bias = none ) * ( 2 + y ) return h , c } \
        network m { input x : vector ( 3 ) input s : symbol ( 4 ) h = reversed f ( x , - s ; n = 4 ) output h }";
    let tokens: Vec<&str> = text.split(' ').collect();
    let others = [
        "", "(", ")", "[", "]", "{", "}", ",", ";", ":", "=", "+", "-", ".", "3", "t", "word", "input",
        "start", "cell", "reversed",
    ];
    for place in 0..tokens.len() {
        for other in others {
            for kept in [&tokens[place..], &tokens[place + 1..]] {
                let text = format!("{} {other} {}", tokens[..place].join(" "), kept.join(" "));
                let Err(errors) = rnnc_lang::compile("net.rnn", &text, None) else { continue };
                for error in errors.diagnostics() {
                    let said = error.message();
                    assert!(!said.starts_with("expected") || error.advice().is_some(), "{text}\n{errors}");
                }
            }
        }
    }
}

#[test]
fn tabs_byte_order_marks_and_line_ends_of_other_systems_are_blank_and_shift_no_place() {
    let text = "network n {\n\tinput x : vector(3)\n\th = tahn(x)\n\toutput h\n}";
    for text in [text.to_string(), format!("\u{feff}{text}"), text.replace('\n', "\r\n")] {
        assert!(rejected(&text).contains("net.rnn:3:6"), "{text:?}");
        assert!(rnnc_lang::compile("net.rnn", &text.replace("tahn", "tanh"), None).is_ok(), "{text:?}");
    }
}

#[test]
fn a_character_from_outside_is_told_once() {
    assert_eq!(said_of("h\u{a0}=\u{a0}x\u{a0}+\u{a0}1").matches("not part of the language").count(), 1);
}
