# What both modules take arrays with: pointers to checked buffers, without numpy's headers, so that
# one build serves every version of numpy and of Python.

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release,
    PyObject_CheckBuffer, PyObject_GetBuffer,
)
from libc.stdint cimport int32_t, int64_t, uint8_t

cdef extern from "src/portable.h":
    const int DONE
    const int NO_MEMORY
    const int OUT_OF_BOUNDS

cdef enum:
    MOST_ARRAYS = 24

cdef dict TYPES = {
    "f": "float32", "d": "float64", "i": "int32", "l": "int64", "q": "int64", "?": "bool",
    "b": "int8", "B": "uint8", "h": "int16", "H": "uint16", "I": "uint32", "L": "uint64",
    "Q": "uint64",
}


cdef class Arrays:
    """The arrays of one call, which hold still until it is forgotten."""

    cdef Py_buffer views[MOST_ARRAYS]
    cdef int number

    def __dealloc__(self):
        cdef int k
        for k in range(self.number):
            PyBuffer_Release(&self.views[k])

    cdef Py_buffer *take_any(
        self, object array, str name, int ndim, bint writable=False
    ) except NULL:
        """Borrow the memory of an array of any type and strides."""
        if not PyObject_CheckBuffer(array):
            raise TypeError(f"{name} must be a numpy array, got {type(array).__name__}")
        cdef Py_buffer *view = &self.views[self.number]
        PyObject_GetBuffer(array, view, PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0))
        self.number += 1
        if view.ndim != ndim:
            raise ValueError(f"{name} must have {ndim} dimensions, got the shape {shape(view)}")
        return view

    cdef Py_buffer *take(
        self, object array, str name, tuple types, int ndim, bint writable=False
    ) except NULL:
        """Borrow the memory of an array, which must be as the loops are written for."""
        if not PyObject_CheckBuffer(array):
            raise TypeError(f"{name} must be a numpy array, got {type(array).__name__}")
        cdef Py_buffer *view = &self.views[self.number]
        try:
            PyObject_GetBuffer(array, view, PyBUF_STRIDES | PyBUF_FORMAT)
        except ValueError as error:
            raise ValueError(f"{name} cannot be read as numbers: {error}") from None
        self.number += 1
        cdef str code = view.format.decode().removeprefix("=")  # before what is not aligned
        cdef str found = TYPES.get(code, code)
        if code == "l" and view.itemsize == 4:
            found = "int32"
        elif code == "L" and view.itemsize == 4:
            found = "uint32"
        if found not in types:
            raise TypeError(f"{name} must be of type {' or '.join(types)}, got {found}")
        if view.ndim != ndim:
            raise ValueError(f"{name} must have {ndim} dimensions, got the shape {shape(view)}")
        if not PyBuffer_IsContiguous(view, b"C"):
            raise ValueError(f"{name} must be in C order; give numpy.ascontiguousarray({name})")
        if <size_t>view.buf % <size_t>view.itemsize:
            raise ValueError(f"{name} must be aligned to its numbers; give a copy of it")
        if writable and view.readonly:
            raise ValueError(f"{name} is read-only; it must be an array that can be written to")
        return view


cdef tuple shape(const Py_buffer *view):
    return tuple([view.shape[k] for k in range(view.ndim)])


cdef int expect(const Py_buffer *view, str name, tuple expected) except -1:
    """Compare the shape of an array; None stands for any length."""
    cdef int k
    for k in range(view.ndim):
        if expected[k] is not None and view.shape[k] != expected[k]:
            raise ValueError(f"{name} must have the shape {expected}, got {shape(view)}")
    return 0


cdef int check(int status, str where) except -1:
    """Raise what a loop has met with."""
    if status == NO_MEMORY:
        raise MemoryError(f"no memory to work in for {where}")
    if status == OUT_OF_BOUNDS:
        raise IndexError(f"{where}: a position or a number lies outside of the arrays it refers to")
    return 0
