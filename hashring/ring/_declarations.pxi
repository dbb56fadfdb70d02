# Part of _engine.pyx: what it takes from C, from CPython and from Arrow, and its sizes of chunks.

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define HR_PREFETCH(address) __builtin_prefetch(address)
    #define HR_PREFETCH_TO_WRITE(address) __builtin_prefetch(address, 1)
    #define HR_POPCOUNT(word) __builtin_popcountll(word)
    #define HR_TRAILING_ZEROS(word) __builtin_ctzll(word)
    #else
    #define HR_PREFETCH(address) ((void)(address))
    #define HR_PREFETCH_TO_WRITE(address) ((void)(address))
    static int HR_POPCOUNT(unsigned long long word) {
        int count = 0;
        for (; word; word &= word - 1) count++;
        return count;
    }
    static int HR_TRAILING_ZEROS(unsigned long long word) {
        int count = 0;
        for (; !(word & 1); word >>= 1) count++;
        return count;
    }
    #endif

    /* Little-endian loads from any address, on any machine. */
    static CYTHON_INLINE uint64_t hr_load64(const uint8_t *from) {
        uint64_t word;
        memcpy(&word, from, 8);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
    #endif
        return word;
    }
    static CYTHON_INLINE uint32_t hr_load32(const uint8_t *from) {
        uint32_t word;
        memcpy(&word, from, 4);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap32(word);
    #endif
        return word;
    }

    /* Before 3.12 a str made by old extension code can still lack its final form. */
    #if PY_VERSION_HEX < 0x030C0000
    #define HR_READY(text) PyUnicode_READY(text)
    #else
    #define HR_READY(text) 0
    #endif

    /* The Arrow C data and stream interfaces (arrow.apache.org, "C data interface"). */
    #ifndef ARROW_C_DATA_INTERFACE
    #define ARROW_C_DATA_INTERFACE
    struct ArrowSchema {
        const char *format, *name, *metadata;
        int64_t flags, n_children;
        struct ArrowSchema **children, *dictionary;
        void (*release)(struct ArrowSchema *);
        void *private_data;
    };
    struct ArrowArray {
        int64_t length, null_count, offset, n_buffers, n_children;
        const void **buffers;
        struct ArrowArray **children, *dictionary;
        void (*release)(struct ArrowArray *);
        void *private_data;
    };
    #endif
    #ifndef ARROW_C_STREAM_INTERFACE
    #define ARROW_C_STREAM_INTERFACE
    struct ArrowArrayStream {
        int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *);
        int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *);
        const char *(*get_last_error)(struct ArrowArrayStream *);
        void (*release)(struct ArrowArrayStream *);
        void *private_data;
    };
    #endif

    static CYTHON_INLINE PyObject **hr_list_items(PyObject *list) {
        return ((PyListObject *)list)->ob_item;
    }
    static CYTHON_INLINE PyObject **hr_tuple_items(PyObject *tuple) {
        return ((PyTupleObject *)tuple)->ob_item;
    }
    """
    void HR_PREFETCH(const void* address) noexcept nogil
    void HR_PREFETCH_TO_WRITE(const void* address) noexcept nogil
    int HR_POPCOUNT(uint64_t word) noexcept nogil
    int HR_TRAILING_ZEROS(uint64_t word) noexcept nogil
    uint64_t hr_load64(const uint8_t* data) noexcept nogil
    uint32_t hr_load32(const uint8_t* data) noexcept nogil
    int HR_READY(PyObject* text) noexcept
    ctypedef struct ArrowSchema "struct ArrowSchema":
        const char* format
        ArrowSchema* dictionary
        void (*release)(ArrowSchema*) noexcept nogil
    ctypedef struct ArrowArray "struct ArrowArray":
        int64_t length
        int64_t null_count
        int64_t offset
        int64_t n_buffers
        const void** buffers
        void (*release)(ArrowArray*) noexcept nogil
    ctypedef struct ArrowArrayStream "struct ArrowArrayStream":
        int (*get_schema)(ArrowArrayStream*, ArrowSchema*) noexcept nogil
        int (*get_next)(ArrowArrayStream*, ArrowArray*) noexcept nogil
        const char* (*get_last_error)(ArrowArrayStream*) noexcept nogil
    PyObject** _list_items "hr_list_items"(object values) noexcept
    PyObject** _tuple_items "hr_tuple_items"(object values) noexcept

cdef extern from "Python.h":
    bint PyUnicode_Check(PyObject* value) noexcept
    bint PyUnicode_IS_ASCII(PyObject* value) noexcept
    int PyUnicode_KIND(PyObject* value) noexcept
    void* PyUnicode_DATA(PyObject* value) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject* value) noexcept
    bint PyBytes_Check(PyObject* value) noexcept
    char* PyBytes_AsStringUnchecked "PyBytes_AS_STRING"(PyObject* value) noexcept
    Py_ssize_t PyBytes_SizeUnchecked "PyBytes_GET_SIZE"(PyObject* value) noexcept
    char* PyByteArray_AS_STRING(object value) noexcept
    int PyByteArray_Resize(object value, Py_ssize_t size) except -1
    object PyUnicode_FromKindAndData(int kind, const void* data, Py_ssize_t length)

cdef enum:
    CHUNK = 1024            # keys hashed at a time where Python objects are read
    BIG_CHUNK = 1 << 14     # where none are, so that the GIL can be released for a while
    AHEAD = 12              # keys whose memory is asked for before they are hashed,
    FAR_AHEAD = 32          # and before they are only collected, which is sooner done
    LOCAL = 512             # bytes of UTF-8 that need no allocation
