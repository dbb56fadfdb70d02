# Part of _engine.pyx: keys that lie in Arrow's arrays, read through its C interfaces and checked
# before they are: what a buffer holds is data from strangers.

cdef enum ArrowLayout:
    OFFSETS_32
    OFFSETS_64
    VIEWS


@cython.final
cdef class _ArrowSource(_Source):
    """Arrow arrays of strings or of binary, by the C data or stream interface: no copy, no pyarrow.

    One array is read at a time; with a stream, the next is fetched when it is done.
    """

    cdef object schema_capsule, capsule     # they own what the pointers below lead to
    cdef ArrowArrayStream* stream
    cdef ArrowSchema stream_schema
    cdef ArrowArray stream_array
    cdef const ArrowArray* array
    cdef ArrowLayout layout
    cdef bint is_text
    cdef Py_ssize_t begin, end, done        # in the array; and keys in the arrays before it

    def __init__(self, schema_capsule, capsule):
        self.schema_capsule, self.capsule = schema_capsule, capsule
        self.reserve(BIG_CHUNK)
        if schema_capsule is None:
            self.stream = <ArrowArrayStream*>PyCapsule_GetPointer(capsule, "arrow_array_stream")
            self.check(self.stream.get_schema(self.stream, &self.stream_schema))
            self.understand(&self.stream_schema)
        else:
            self.understand(<ArrowSchema*>PyCapsule_GetPointer(schema_capsule, "arrow_schema"))
            self.array = <const ArrowArray*>PyCapsule_GetPointer(capsule, "arrow_array")
            self.expected = self.array.length

    def __dealloc__(self):
        if self.stream_array.release != NULL:
            self.stream_array.release(&self.stream_array)
        if self.stream_schema.release != NULL:
            self.stream_schema.release(&self.stream_schema)

    cdef int check(self, int status) except -1:
        cdef const char* said
        if status:
            said = self.stream.get_last_error(self.stream)
            reason = said.decode("utf-8", "replace") if said != NULL else f"error {status}"
            raise BadKey(f"the Arrow stream of keys failed: {reason}")
        return 0

    cdef int understand(self, const ArrowSchema* schema) except -1:
        name = schema.format.decode("utf-8", "replace")
        layouts = {
            "u": OFFSETS_32, "z": OFFSETS_32, "U": OFFSETS_64, "Z": OFFSETS_64,
            "vu": VIEWS, "vz": VIEWS,
        }
        if schema.dictionary != NULL or name not in layouts:
            kind = "a dictionary" if schema.dictionary != NULL else f"of format {name!r}"
            raise BadKey(
                f"the Arrow array is {kind}: keys are of type string, large_string, string_view, "
                "binary, large_binary or binary_view; cast it"
            )
        self.layout = layouts[name]
        self.is_text = name.lower().endswith("u")
        return 0

    cdef bint locate(
        self, Py_ssize_t i, const uint8_t** data, Py_ssize_t* length
    ) noexcept nogil:
        # Where the array's i-th key lies; False where it is null or malformed.
        cdef const ArrowArray* array = self.array
        cdef int64_t at = array.offset + i, start, stop
        cdef const uint8_t* valid = <const uint8_t*>array.buffers[0]
        cdef const int32_t* view
        if valid != NULL and not valid[at >> 3] >> (at & 7) & 1:
            return False
        if self.layout == VIEWS:
            view = <const int32_t*>array.buffers[1] + 4 * at
            length[0] = view[0]
            if view[0] <= 12:
                data[0] = <const uint8_t*>(view + 1)
            elif 0 <= view[2] < array.n_buffers - 3 and view[3] >= 0:
                data[0] = <const uint8_t*>array.buffers[2 + view[2]] + view[3]
            else:
                return False
            return view[0] >= 0
        if self.layout == OFFSETS_32:
            start = (<const int32_t*>array.buffers[1])[at]
            stop = (<const int32_t*>array.buffers[1])[at + 1]
        else:
            start = (<const int64_t*>array.buffers[1])[at]
            stop = (<const int64_t*>array.buffers[1])[at + 1]
        data[0] = <const uint8_t*>array.buffers[2] + start
        length[0] = stop - start
        return 0 <= start <= stop

    cdef Py_ssize_t hash_some(self, Py_ssize_t count) noexcept nogil:
        cdef const uint8_t* data = NULL
        cdef Py_ssize_t i, length = 0
        for i in range(count):
            if not self.locate(self.begin + i, &data, &length):
                return i
            self.own[i] = <uint32_t>(murmur(data, length, 0) >> 32)
        return count

    cdef int advance(self) except -1:
        # To the stream's next array that is not empty; `array` becomes NULL at its end.
        cdef int status
        while self.stream != NULL and (self.array == NULL or self.end == self.array.length):
            self.done += self.end
            self.begin = self.end = 0
            self.array = NULL
            if self.stream_array.release != NULL:
                self.stream_array.release(&self.stream_array)
                self.stream_array.release = NULL
            with nogil:
                status = self.stream.get_next(self.stream, &self.stream_array)
            self.check(status)
            if self.stream_array.release == NULL:
                self.stream = NULL
                return 0
            self.array = &self.stream_array
        return 0

    cdef int fill(self) except -1:
        cdef Py_ssize_t hashed
        self.count = 0
        self.advance()
        if self.array == NULL:
            return 0
        self.begin = self.end
        self.end = min(self.begin + BIG_CHUNK, <Py_ssize_t>self.array.length)
        self.count = self.end - self.begin
        with nogil:
            hashed = self.hash_some(self.count)
        if hashed < self.count:
            _refuse(None, NOT_A_KEY, self.done + self.begin + hashed)
        return 0

    cdef object item(self, Py_ssize_t i):
        cdef const uint8_t* data = NULL
        cdef Py_ssize_t length = 0
        self.locate(self.begin + i, &data, &length)
        if not self.is_text:
            return PyBytes_FromStringAndSize(<const char*>data, length)
        try:
            return PyUnicode_DecodeUTF8(<const char*>data, length, NULL)
        except UnicodeDecodeError as error:
            raise BadKey(f"key {self.done + self.begin + i} is no UTF-8: {error}") from error


cdef _Source _arrow_source(object keys):
    # None where the object exports no Arrow data; pandas has the method without pyarrow, too.
    try:
        if hasattr(keys, "__arrow_c_array__"):
            return _ArrowSource(*keys.__arrow_c_array__())
        if hasattr(keys, "__arrow_c_stream__"):
            return _ArrowSource(None, keys.__arrow_c_stream__())
    except ImportError:
        pass
    return None
