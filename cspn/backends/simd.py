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
    def __init__(self):
        super().__init__(name=f"float32x{LANES}")


@register_default(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VALUES)


_vector = _Vector()


def _pointer(context, builder, kind, array, index):
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VALUES.as_pointer())


@intrinsic
def load(typing, array, index):
    """Return values `index` .. `index` + 15 of an array."""

    def generate(context, builder, signature, args):
        return builder.load(_pointer(context, builder, signature.args[0], *args), align=4)

    return _vector(array, types.intp), generate


@intrinsic
def store(typing, array, index, value):
    """Write values `index` .. `index` + 15 of an array."""

    def generate(context, builder, signature, args):
        into = _pointer(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], into, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def prefetch(typing, array, index):
    """Prefetch the cache line of one value, which may lie outside of the array."""

    def generate(context, builder, signature, args):
        if binding.llvm_version_info[0] >= 17:  # before, the instruction had another name
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            where = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
            number = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [where.type, number, number, number])
            name = "llvm.prefetch.p0"
            ask = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(ask, [where, number(0), number(2), number(1)])  # read, to L2, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def _operation(build):
    """Return what numba compiles to the vector that `build(builder, *vectors)` makes of others."""

    @functools.wraps(build)  # numba reads the number of arguments there
    def define(typing, *vectors):
        def generate(context, builder, signature, args):
            return build(builder, *args)

        return _vector(*vectors), generate

    return intrinsic(define)


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


@intrinsic
def splat(typing, number):
    """Return a float32 sixteen times."""

    def generate(context, builder, signature, args):
        first = builder.insert_element(
            ir.Constant(_VALUES, ir.Undefined), args[0], ir.IntType(32)(0)
        )
        positions = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, ir.Constant(_VALUES, ir.Undefined), positions)

    return _vector(types.float32), generate
