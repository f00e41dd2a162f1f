// Going from one stack to another. A context is a pointer to what is needed to go on; it lies on the stack that was
// left. Compiled once for all tests. `-DUCONTEXT` takes the slow way of other processors, so that it is tested too.

#if defined(__x86_64__) && defined(__linux__) && !defined(UCONTEXT)

// What a call must leave alone, besides the stack: six registers.
asm(R"(
.text
.globl rnnc_switch
.type rnnc_switch, @function
rnnc_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size rnnc_switch, .-rnnc_switch
.section .note.GNU-stack, "", @progbits
.text
)");

// `top` is aligned to 16 bytes, the stack's lowest is `top - bytes`. `entry` never returns.
extern "C" void* rnnc_context(char* top, unsigned long, void (*entry)()) {
    void** words = (void**)top - 8;
    for (int i = 0; i < 8; ++i) words[i] = nullptr;
    words[6] = (void*)entry;
    return words;
}

#else

#include <ucontext.h>

extern "C" void* rnnc_context(char* top, unsigned long bytes, void (*entry)()) {
    ucontext_t* context = (ucontext_t*)((unsigned long)(top - sizeof(ucontext_t)) / 64 * 64);
    getcontext(context);
    context->uc_stack.ss_sp = top - bytes;
    context->uc_stack.ss_size = (unsigned long)context - (unsigned long)(top - bytes);
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
    return context;
}

extern "C" void rnnc_switch(void** from, void* to) {
    ucontext_t here;
    *from = &here;
    swapcontext(&here, (ucontext_t*)to);
}

#endif
