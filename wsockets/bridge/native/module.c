/* wsockets.bridge._native: sessions and their news, for Python.

   Every function here runs with Python's lock; those that wait for an engine give it
   up meanwhile. A running Session refers to itself and to its owner, so neither is
   freed before the engine has let go; take() and abandon() end that. */

#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "openssl.h"
#include "segments.h"
#include "session.h"

static PyTypeObject *queue_type, *session_type;

/* -- Queue */

struct queue {
    PyObject_HEAD
    struct news news;
};

static PyObject *os_error(int error)
{
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Queue", names))
        return NULL;
    struct queue *self = (struct queue *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    int error = news_open(&self->news);
    if (error) {
        Py_DECREF(self);
        return os_error(error);
    }
    return (PyObject *)self;
}

static void free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static void queue_dealloc(PyObject *self)
{
    news_close(&((struct queue *)self)->news);
    free_object(self);
}

static PyObject *queue_fileno(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(((struct queue *)self)->news.fd);
}

/* -- Session */

struct session_object {
    PyObject_HEAD
    struct session *session;
    PyObject *queue;
    PyObject *owner; /* while it runs */
    bool started, running;
};

/* The engine has let go: so do we. The caller owns the reference to the owner. */
static PyObject *let_go(struct session_object *self)
{
    PyObject *owner = self->owner;
    self->owner = NULL;
    self->running = false;
    Py_BEGIN_ALLOW_THREADS
    news_forget(self->session);
    engine_release(self->session);
    Py_END_ALLOW_THREADS
    self->session->news = NULL;
    Py_CLEAR(self->queue);
    Py_DECREF((PyObject *)self);
    return owner;
}

static PyObject *queue_take(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *found = PyList_New(0);
    if (!found)
        return NULL;
    struct session *session;
    while ((session = news_take(&((struct queue *)self)->news))) {
        struct session_object *object = session->object;
        if (!object->running)
            continue;
        bool ended = atomic_load(&session->ended);
        PyObject *owner = Py_NewRef(object->owner);
        if (ended)
            Py_XDECREF(let_go(object));
        int failed = PyList_Append(found, owner);
        Py_DECREF(owner);
        if (failed) {
            Py_DECREF(found);
            return NULL;
        }
    }
    return found;
}

static bool parse_end(PyObject *tuple, struct end *end)
{
    unsigned long long ssl;
    int ours, tolerant;
    if (!PyArg_ParseTuple(tuple, "iippKi", &end->read_fd, &end->write_fd, &ours, &tolerant,
                          &ssl, &end->ssl_fd))
        return false;
    end->ours = ours;
    end->tolerant = tolerant;
    end->ssl = (void *)(uintptr_t)ssl;
    return true;
}

static bool copy(uint8_t **into, size_t *size, const char *data, Py_ssize_t length)
{
    if (length == 0)
        return true;
    *into = malloc((size_t)length);
    if (!*into) {
        PyErr_NoMemory();
        return false;
    }
    memcpy(*into, data, (size_t)length);
    *size = (size_t)length;
    return true;
}

static int64_t nanoseconds(double seconds)
{
    const double most = 1e9; /* thirty years */
    return (int64_t)((seconds < most ? seconds : most) * 1e9);
}

static PyObject *session_object_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"connection", "sink",    "encrypt",       "decrypt",
                            "framing",    "prefix",  "mtu",           "idle",
                            "half_close", "to_sink", "to_connection", "segmented",
                            NULL};
    PyObject *connection, *sink;
    int encrypt, decrypt, framing, half_close, segmented;
    const char *prefix, *to_sink, *to_connection;
    Py_ssize_t prefix_length, to_sink_length, to_connection_length, mtu;
    double idle;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!ppiy#ndpy#y#p:Session", names,
                                     &PyTuple_Type, &connection, &PyTuple_Type, &sink,
                                     &encrypt, &decrypt, &framing,
                                     &prefix, &prefix_length, &mtu, &idle, &half_close, &to_sink,
                                     &to_sink_length, &to_connection, &to_connection_length,
                                     &segmented))
        return NULL;
    if (prefix_length > HEADROOM || mtu < 1 || mtu > 65535 || framing < FRAMING_STREAM ||
        framing > FRAMING_LENGTH16 || !(encrypt || decrypt) || !(idle > 0)) {
        PyErr_Format(PyExc_ValueError,
                     "a prefix has at most %d bytes, an mtu 1 to 65535; idle is positive",
                     HEADROOM);
        return NULL;
    }
    if (segmented && (framing != FRAMING_IP || prefix_length < SEGMENTS_HEADER)) {
        PyErr_SetString(PyExc_ValueError, "segments are of IP, behind a header");
        return NULL;
    }
    if (!openssl.SSL_read) {
        PyErr_SetString(PyExc_RuntimeError, "configure() comes first");
        return NULL;
    }
    struct session_object *self = (struct session_object *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    struct session *session = self->session = session_new();
    if (!session) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    struct end ends[2] = {session->ends[0], session->ends[1]};
    struct bytes *decrypt_head = &session->flows[DECRYPT].head;
    struct bytes *encrypt_head = &session->flows[ENCRYPT].head;
    session->object = self;
    session->flows[ENCRYPT].bridged = encrypt;
    session->flows[DECRYPT].bridged = decrypt;
    session->half_close = half_close;
    session->segmented = session->joins_tcp = session->joins_udp = segmented;
    session->framing = (enum framing)framing;
    session->mtu = (size_t)mtu;
    session->idle_time = idle < 1e9 ? nanoseconds(idle) : 0;
    if (!parse_end(connection, &ends[SIDE_CONNECTION]) || !parse_end(sink, &ends[SIDE_SINK]) ||
        !copy(&session->prefix, &session->prefix_length, prefix, prefix_length) ||
        !copy(&decrypt_head->data, &decrypt_head->length, to_sink, to_sink_length) ||
        !copy(&encrypt_head->data, &encrypt_head->length, to_connection,
              to_connection_length)) {
        Py_DECREF(self);
        return NULL;
    }
    if (to_connection_length && framing != FRAMING_STREAM && !ends[SIDE_SINK].ours) {
        PyErr_SetString(PyExc_ValueError, "bytes of a packet device have no packets");
        Py_DECREF(self);
        return NULL;
    }
    session->ends[0] = ends[0];
    session->ends[1] = ends[1];
    session_prepare(session);
    return (PyObject *)self;
}

static void session_object_dealloc(PyObject *object)
{
    struct session_object *self = (struct session_object *)object;
    if (self->session) {
        session_close(self->session);
        session_free(self->session);
    }
    Py_XDECREF(self->queue);
    Py_XDECREF(self->owner);
    free_object(object);
}

static PyObject *session_object_start(PyObject *object, PyObject *args)
{
    struct session_object *self = (struct session_object *)object;
    PyObject *queue, *owner;
    if (!PyArg_ParseTuple(args, "O!O:start", queue_type, &queue, &owner))
        return NULL;
    if (self->started) {
        PyErr_SetString(PyExc_RuntimeError, "started before");
        return NULL;
    }
    self->started = true;
    /* Before the engine has it, which may be done at once. */
    self->running = true;
    self->owner = Py_NewRef(owner);
    self->queue = Py_NewRef(queue);
    self->session->news = &((struct queue *)queue)->news;
    Py_INCREF(object);
    int error;
    Py_BEGIN_ALLOW_THREADS
    error = engine_start(self->session);
    Py_END_ALLOW_THREADS
    if (error) {
        /* It may be abandoned, like any other that never was started. */
        self->started = self->running = false;
        self->session->news = NULL;
        Py_CLEAR(self->owner);
        Py_CLEAR(self->queue);
        Py_DECREF(object);
        return os_error(error);
    }
    Py_RETURN_NONE;
}

static PyObject *session_object_stop(PyObject *object, PyObject *argument)
{
    struct session_object *self = (struct session_object *)object;
    double drain = PyFloat_AsDouble(argument);
    if (drain == -1.0 && PyErr_Occurred())
        return NULL;
    if (self->running)
        engine_ask(self->session, TO_STOP, nanoseconds(drain > 0 ? drain : 0));
    Py_RETURN_NONE;
}

static PyObject *session_object_abandon(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct session_object *self = (struct session_object *)object;
    if (!self->running) {
        if (!self->started) {
            self->started = true;
            session_close(self->session);
            session_abandon(self->session);
            atomic_store(&self->session->ended, true);
        }
        Py_RETURN_NONE;
    }
    /* Nobody else lets go of it meanwhile: that is for the thread of the loop. */
    Py_BEGIN_ALLOW_THREADS
    engine_ask(self->session, TO_ABANDON, 0);
    engine_wait(self->session);
    Py_END_ALLOW_THREADS
    if (self->running)
        Py_XDECREF(let_go(self));
    Py_RETURN_NONE;
}

static PyObject *session_object_fileno(PyObject *object, PyObject *unused)
{
    (void)unused;
    int fd = engine_done_fd(((struct session_object *)object)->session);
    return fd < 0 ? os_error(-fd) : PyLong_FromLong(fd);
}

static unsigned long long load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static PyObject *session_object_stats(PyObject *object, PyObject *unused)
{
    (void)unused;
    const struct flow *flows = ((struct session_object *)object)->session->flows;
    const struct counters *out = &flows[ENCRYPT].count, *in = &flows[DECRYPT].count;
    return Py_BuildValue("((KKKK)(KKKK))", load(&out->bytes), load(&out->packets),
                         load(&out->records), load(&out->drops), load(&in->bytes),
                         load(&in->packets), load(&in->records), load(&in->drops));
}

static PyObject *session_object_finished(PyObject *object, PyObject *unused)
{
    (void)unused;
    unsigned bits = atomic_load(&((struct session_object *)object)->session->finished);
    return Py_BuildValue("(NN)", PyBool_FromLong(bits >> ENCRYPT & 1),
                         PyBool_FromLong(bits >> DECRYPT & 1));
}

static PyObject *session_object_report(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct session *session = ((struct session_object *)object)->session;
    if (!atomic_load(&session->ended))
        Py_RETURN_NONE;
    const struct report *report = &session->report;
    int count = report->reason == REASON_TLS ? session->codes.count : 0;
    PyObject *codes = PyTuple_New(count);
    if (!codes)
        return NULL;
    for (int i = 0; i < count; i++) {
        PyObject *code = PyLong_FromUnsignedLong(session->codes.code[i]);
        if (!code || PyTuple_SetItem(codes, i, code) < 0) {
            Py_DECREF(codes);
            return NULL;
        }
    }
    return Py_BuildValue("(iiiiinKN)", (int)report->side, (int)report->direction,
                         (int)report->reason, report->error, (int)report->verdict,
                         (Py_ssize_t)report->value, (unsigned long long)report->offset,
                         codes);
}

static PyObject *give_bytes(struct bytes *bytes)
{
    PyObject *result =
        PyBytes_FromStringAndSize((const char *)bytes->data, (Py_ssize_t)bytes->length);
    if (result) {
        free(bytes->data);
        *bytes = (struct bytes){0};
    }
    return result;
}

static PyObject *session_object_remains(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct session *session = ((struct session_object *)object)->session;
    if (!atomic_load(&session->ended)) {
        PyErr_SetString(PyExc_RuntimeError, "it has not ended");
        return NULL;
    }
    PyObject *found[2];
    for (int side = SIDE_CONNECTION; side <= SIDE_SINK; side++)
        found[side] = Py_BuildValue("(NNN)", give_bytes(&session->unread[side]),
                                    give_bytes(&session->owed[side]),
                                    give_bytes(&session->owed_clear[side]));
    return Py_BuildValue("(NN)", found[SIDE_CONNECTION], found[SIDE_SINK]);
}

/* -- the module */

static PyObject *queue_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    news_close(&((struct queue *)self)->news);
    Py_RETURN_NONE;
}

static PyMethodDef queue_methods[] = {
    {"close", queue_close, METH_NOARGS, "Close the fd; no session is running."},
    {"fileno", queue_fileno, METH_NOARGS, "The fd that is readable when there is news."},
    {"take", queue_take, METH_NOARGS, "The owners of the sessions with news."},
    {0},
};

static PyMethodDef session_methods[] = {
    {"start", session_object_start, METH_VARARGS, "Begin; the owner is kept until the end."},
    {"stop", session_object_stop, METH_O, "Read no more; end within so many seconds."},
    {"abandon", session_object_abandon, METH_NOARGS, "End now; returns when it is over."},
    {"fileno", session_object_fileno, METH_NOARGS, "An fd, readable when it has ended."},
    {"stats", session_object_stats, METH_NOARGS, "The counters."},
    {"finished", session_object_finished, METH_NOARGS, "Which directions have ended."},
    {"report", session_object_report, METH_NOARGS, "How it ended, or None."},
    {"remains", session_object_remains, METH_NOARGS, "What was not delivered."},
    {0},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_doc, "The sessions of one event loop that have news."},
    {Py_tp_new, queue_new},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_methods, queue_methods},
    {0, NULL},
};

static PyType_Slot session_slots[] = {
    {Py_tp_doc, "One running bridge."},
    {Py_tp_new, session_object_new},
    {Py_tp_dealloc, session_object_dealloc},
    {Py_tp_methods, session_methods},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "wsockets.bridge._native.Queue",
    .basicsize = sizeof(struct queue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = queue_slots,
};

static PyType_Spec session_spec = {
    .name = "wsockets.bridge._native.Session",
    .basicsize = sizeof(struct session_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = session_slots,
};

static void *pointer_of(PyObject *pointers, const char *name)
{
    PyObject *value = PyDict_GetItemString(pointers, name);
    if (!value) {
        PyErr_Format(PyExc_ValueError, "the address of %s is missing", name);
        return NULL;
    }
    void *pointer = (void *)(uintptr_t)PyLong_AsUnsignedLongLong(value);
    if (!pointer && !PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "the address of %s is 0", name);
    return PyErr_Occurred() ? NULL : pointer;
}

static PyObject *configure(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *pointers;
    int threads;
    if (!PyArg_ParseTuple(args, "O!i:configure", &PyDict_Type, &pointers, &threads))
        return NULL;
    struct openssl found;
    void *pointer;
#define FIND(result, name, arguments)                                                  \
    if (!(pointer = pointer_of(pointers, #name)))                                      \
        return NULL;                                                                   \
    memcpy(&found.name, &pointer, sizeof pointer);
    OPENSSL_FUNCTIONS(FIND)
#undef FIND
    if (!openssl.SSL_read)
        openssl = found;
    engines_limit(threads < 1 ? 1 : (unsigned)threads);
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"configure", configure, METH_VARARGS,
     "Take OpenSSL's functions, by name, and how many threads there may be."},
    {0},
};

static int add_names(PyObject *module)
{
    static const char *const names[] = {
#define NAME(result, name, arguments) #name,
        OPENSSL_FUNCTIONS(NAME)
#undef NAME
    };
    const Py_ssize_t count = sizeof names / sizeof *names;
    PyObject *tuple = PyTuple_New(count);
    if (!tuple)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (!name || PyTuple_SetItem(tuple, i, name) < 0) {
            Py_DECREF(tuple);
            return -1;
        }
    }
    int failed = PyModule_AddObjectRef(module, "FUNCTIONS", tuple);
    Py_DECREF(tuple);
    return failed;
}

static int module_exec(PyObject *module)
{
    /* Types and engines are the process's, and so is OpenSSL. */
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        PyErr_SetString(PyExc_ImportError,
                        "the native engine serves the main interpreter only");
        return -1;
    }
    if (!queue_type)
        queue_type = (PyTypeObject *)PyType_FromSpec(&queue_spec);
    if (!session_type)
        session_type = (PyTypeObject *)PyType_FromSpec(&session_spec);
    if (!queue_type || !session_type)
        return -1;
    if (add_names(module) < 0 || PyModule_AddIntConstant(module, "LONGEST_PREFIX", HEADROOM))
        return -1;
    if (PyModule_AddType(module, queue_type) < 0)
        return -1;
    return PyModule_AddType(module, session_type);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "The native engine of bridges.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&module_definition);
}
