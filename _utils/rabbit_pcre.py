"""
What PCRE says of a regular expression: RabbitMQ's are Erlang's, and Erlang's are PCRE's.

Asks the system's PCRE2, which Debian and the RedHat family always have: SELinux's library
needs it. Erlang has PCRE 8 up to version 27 and PCRE2 from 28 on. Where the two
differ, and by which codes, was found by giving 9000 expressions to Erlang 25 and 29.

See https://www.pcre.org/current/doc/html/pcre2api.html.
"""

import ctypes

LIBRARY = "libpcre2-8.so.0"
# Codes of PCRE2 for what PCRE 8 takes, what PCRE2 takes from 10.43 on, and what Erlang
# has higher limits for.
_NEWER = {103, 150, 199}
_OLDER = {125, 148}
_NEITHER = {119}
_BAD_ESCAPE_IS_LITERAL = 2


def is_there():
    """
    Tell whether the system has PCRE2.

    Returns a boolean.
    """
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def fault(expression):
    """
    Tell what is wrong with a regular expression.

    expression
        A string.

    Returns None where nothing is, else a mapping: ``why`` is PCRE2's sentence, and
    ``refused_by`` is ``all``, ``newer`` (Erlang 28 and newer) or ``older``.

    Raises OSError where the system has no PCRE2.
    """
    text = expression.encode(errors="surrogatepass")
    code, why = _compiled(text)
    if not code or code in _NEITHER:
        return None
    refused_by = "older" if code in _OLDER else "all"
    if code in _NEWER:
        refused_by = "newer"
        # What PCRE 8 takes may have more behind it.
        code, more = _compiled(text, _BAD_ESCAPE_IS_LITERAL)
        if code and code not in _NEWER:
            refused_by, why = "all", more
    return {"why": why, "refused_by": refused_by}


def _compiled(text, options=0):
    """Have PCRE2 compile bytes, as RabbitMQ does; returns its error code, or 0, and sentence."""
    pcre2 = ctypes.CDLL(LIBRARY)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32
    pcre2.pcre2_compile_context_create_8.restype = pointer
    pcre2.pcre2_compile_8.restype = pointer
    code, offset = ctypes.c_int(), size()
    context = pointer(pcre2.pcre2_compile_context_create_8(None))
    pcre2.pcre2_set_compile_extra_options_8(context, number(options))
    where = (ctypes.byref(code), ctypes.byref(offset), context)
    found = pointer(pcre2.pcre2_compile_8(text, size(len(text)), number(0), *where))
    pcre2.pcre2_compile_context_free_8(context)
    if found:
        pcre2.pcre2_code_free_8(found)
        return 0, ""
    sentence = ctypes.create_string_buffer(256)
    pcre2.pcre2_get_error_message_8(code, sentence, size(len(sentence)))
    return code.value, sentence.value.decode()
