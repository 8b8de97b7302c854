"""Sixteen float32 at once, for functions that numba compiles; LLVM splits them on narrower CPUs.

Numba leaves it to LLVM to find loops that vector instructions can run, and LLVM gives up where
many arrays might overlap. Here the instructions are written down. An index is the number of values
before it in a C-contiguous float32 array; nothing checks it.
"""

import functools

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic

LANES = 16
_VALUES = ir.VectorType(ir.FloatType(), LANES)
_FUSED = ("contract",)  # a product and a sum may become one instruction


class _Vector(types.Type):
    pass


@register_default(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VALUES)


_vector = _Vector(f"float32x{LANES}")


def _operation(build, result=_vector):
    """Return what numba compiles to the `result` that `build(builder, *values)` emits.

    An array among the arguments is the pointer to its data there.
    """

    @functools.wraps(build)  # numba reads the number of arguments there
    def define(typing, *kinds):
        kinds = [types.intp if isinstance(kind, types.Integer) else kind for kind in kinds]

        def generate(context, builder, signature, args):
            values = [
                context.make_array(kind)(context, builder, value).data
                if isinstance(kind, types.Array)
                else value
                for kind, value in zip(signature.args, args, strict=True)
            ]
            built = build(builder, *values)
            return context.get_dummy_value() if result is types.void else built

        return result(*kinds), generate

    return intrinsic(define)


def _pointer(builder, data, index, kind=_VALUES):
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


@_operation
def load(builder, array, index):
    """Return values `index` .. `index` + 15 of an array."""
    return builder.load(_pointer(builder, array, index), align=4)


@functools.partial(_operation, result=types.void)
def store(builder, array, index, value):
    """Write values `index` .. `index` + 15 of an array."""
    builder.store(value, _pointer(builder, array, index), align=4)


@functools.partial(_operation, result=types.void)
def prefetch(builder, array, index):
    """Prefetch the cache line of one value, which may lie outside of the array."""
    if binding.llvm_version_info[0] >= 17:  # before, the instruction had another name
        number, where = ir.IntType(32), _pointer(builder, array, index, ir.IntType(8))
        kind = ir.FunctionType(ir.VoidType(), [where.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [where, number(0), number(2), number(1)])  # read, to L2, data


def _constant(value):
    return ir.Constant(_VALUES, [value] * LANES)


def _size_bits(builder, a):
    """Return the bits of |a| as integers, in the order of the numbers, NaN last."""
    bits = ir.VectorType(ir.IntType(32), LANES)
    return builder.and_(builder.bitcast(a, bits), ir.Constant(bits, [2**31 - 1] * LANES))


add = _operation(lambda builder, a, b: builder.fadd(a, b))
subtract = _operation(lambda builder, a, b: builder.fsub(a, b))
multiply = _operation(lambda builder, a, b: builder.fmul(a, b))


@_operation
def multiply_add(builder, a, b, c):
    """Return a b + c."""
    return builder.fadd(builder.fmul(a, b, flags=_FUSED), c, flags=_FUSED)


@_operation
def absolute(builder, a):
    """Return |a|."""
    return builder.bitcast(_size_bits(builder, a), _VALUES)


@_operation
def larger(builder, a, b):
    """Return the larger of |a| and |b|, where NaN is larger than infinity."""
    a, b = _size_bits(builder, a), _size_bits(builder, b)
    return builder.bitcast(builder.select(builder.icmp_unsigned(">", a, b), a, b), _VALUES)


@_operation
def reciprocal(builder, a):
    """Return 1 / a, and 1 where a is 0."""
    nothing = builder.fcmp_ordered("==", a, _constant(0.0))
    return builder.fdiv(_constant(1.0), builder.select(nothing, _constant(1.0), a))


@_operation
def where_positive(builder, test, a, b):
    """Return a where test > 0, else b."""
    return builder.select(builder.fcmp_ordered(">", test, _constant(0.0)), a, b)


@_operation
def before(builder, a, b):
    """Return the last value of a, then the first fifteen of b: each of b's, one to the left."""
    return _joined(builder, a, b, range(LANES - 1, 2 * LANES - 1))


@_operation
def after(builder, a, b):
    """Return the last fifteen values of a, then the first of b: each of a's, one to the right."""
    return _joined(builder, a, b, range(1, LANES + 1))


def _joined(builder, a, b, chosen):
    """Return sixteen chosen values of the 32 of two vectors."""
    indices = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(chosen))
    return builder.shuffle_vector(a, b, indices)


@_operation
def splat(builder, number):
    """Return a float32 sixteen times."""
    nothing = ir.Constant(_VALUES, ir.Undefined)
    first = builder.insert_element(nothing, number, ir.IntType(32)(0))
    return _joined(builder, first, nothing, [0] * LANES)
