# Part of _engine.pyx: ``Keys``, a collection of keys whose hashes are kept.

cdef tuple _hash_into_arrays(object keys, object key):
    # (items, their 32-bit hashes): an item is what the caller gave, also where key= is used.
    cdef _Source source
    cdef list items = []
    cdef list chunks = []
    cdef PyObject** objects
    cdef Py_ssize_t i
    if isinstance(keys, Keys) and key is None:
        return (<Keys>keys).items, (<Keys>keys).hashes
    if key is None and isinstance(keys, list):
        keys = tuple(keys)  # so that the items are those that were hashed
    source = _source(keys, key)
    while True:
        source.fill()
        if source.count == 0:
            break
        chunks.append(
            PyBytes_FromStringAndSize(<const char*>source.top, source.count * sizeof(uint32_t))
        )
        if type(keys) is not tuple or key is not None:
            objects = source.objects()
            for i in range(source.count):
                items.append(source.item(i) if objects == NULL else <object>objects[i])
    if type(keys) is tuple and key is None:
        return keys, b"".join(chunks)
    return tuple(items), b"".join(chunks)


cdef object _canonical(object key):
    return (<str>key).encode() if isinstance(key, str) else bytes(key)


cdef class Keys:
    """Keys that are hashed once: pass it wherever ``keys`` stands. Keeps order and repeats.

    Independent of any ring. Costs 4 bytes a key beside the reference to the key. It can be
    changed (:meth:`add`, :meth:`remove`); a batch that runs meanwhile in another thread sees the
    keys of before. Each change copies two arrays: add many keys in one call rather than one each.

    Args:
        keys: any iterable of keys, or of objects if ``key`` is given.
        key: a callable that gives an object's key.

    Raises:
        BadKey: one is neither ``str`` nor ``bytes``, or has a lone surrogate.

    Example:
        >>> from hashring.ring import HashRing, Keys
        >>> keys = Keys(["disk-1", "disk-2"])
        >>> keys.add(["disk-3"])
        >>> keys.remove(["disk-1"])
        1
        >>> HashRing(["a"]).owned("a", keys)
        ['disk-2', 'disk-3']
    """

    __class_getitem__ = classmethod(GenericAlias)

    def __cinit__(self):
        self.items = ()
        self.hashes = b""
        self.key = None

    def __init__(self, keys=(), *, key=None):
        items, hashes = _hash_into_arrays(keys, key)
        if key is None and isinstance(keys, Keys):
            key = (<Keys>keys).key
        self.items, self.hashes, self.key = items, hashes, key

    def __len__(self):
        return PyTuple_GET_SIZE(self.items)

    def __iter__(self):
        return iter(self.items)

    def __getitem__(self, index):
        return self.items[index]

    def __repr__(self):
        return f"<Keys: {len(self.items)}>"

    def __reduce__(self):
        return _restore_keys, (self.items, self.key)

    def add(self, keys):
        """Append keys (or objects, if these Keys have a ``key=``), in order.

        Raises:
            BadKey: as the constructor; then nothing has been added.
        """
        items, hashes = _hash_into_arrays(keys, None if isinstance(keys, Keys) else self.key)
        # Read again after the callbacks: one of them may have changed these Keys.
        self.items, self.hashes = self.items + tuple(items), self.hashes + hashes

    def remove(self, keys):
        """Remove every occurrence of these keys (or of objects with the same key).

        Returns:
            The number removed. Keys that are not there are ignored.

        Raises:
            BadKey: as the constructor; then nothing has been removed.
        """
        cdef bytes hashes, gone_hashes
        cdef tuple items, gone
        cdef Py_ssize_t i, slot
        cdef const uint32_t* top
        cdef SlotSet sieve = SlotSet(1 << 16)
        cdef list left, removed
        cdef object key = self.key
        other = (<Keys>keys).key if isinstance(keys, Keys) else key
        gone, gone_hashes = _hash_into_arrays(keys, None if isinstance(keys, Keys) else key)
        canonical = {_canonical(k if other is None else other(k)) for k in gone}
        top = <const uint32_t*>PyBytes_AS_STRING(gone_hashes)
        for i in range(PyTuple_GET_SIZE(gone)):
            slot = top[i] >> 16
            sieve.word[slot >> 6] |= <uint64_t>1 << (slot & 63)
        while True:
            items, hashes = self.items, self.hashes
            top = <const uint32_t*>PyBytes_AS_STRING(hashes)
            left, removed = [], []
            for i in range(PyTuple_GET_SIZE(items)):
                item = <object>PyTuple_GET_ITEM(items, i)
                slot = top[i] >> 16
                if (
                    sieve.word[slot >> 6] >> (slot & 63) & 1
                    and _canonical(item if key is None else key(item)) in canonical
                ):
                    removed.append(i)
                else:
                    left.append(item)
            remaining, remaining_hashes = tuple(left), _without(hashes, removed)
            if self.items is items:  # else a key function or another thread came in between
                self.items, self.hashes = remaining, remaining_hashes
                return PyList_GET_SIZE(removed)


cdef bytes _without(bytes hashes, list indices):
    # The array of 32-bit hashes less those at these ascending indices.
    cdef Py_ssize_t size = len(hashes) // sizeof(uint32_t), begin = 0, at = 0, index
    cdef bytes result = PyBytes_FromStringAndSize(
        NULL, (size - PyList_GET_SIZE(indices)) * sizeof(uint32_t)
    )
    cdef const uint32_t* top = <const uint32_t*>PyBytes_AS_STRING(hashes)
    cdef uint32_t* out = <uint32_t*>PyBytes_AS_STRING(result)
    for index in indices:
        memcpy(out + at, top + begin, (index - begin) * sizeof(uint32_t))
        at += index - begin
        begin = index + 1
    memcpy(out + at, top + begin, (size - begin) * sizeof(uint32_t))
    return result


def _restore_keys(items, key):
    return Keys(items, key=key)
