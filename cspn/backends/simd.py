"""Sixteen float32 at once, for functions that numba compiles; LLVM splits them on narrower CPUs.

Numba leaves it to LLVM to find loops that vector instructions can run, and LLVM gives up where
many arrays might overlap. Here the instructions are written down. A place is the number of values
before it in a C-contiguous float32 array; nothing checks it.

Numba's cache does not look into this file: after a change here, `numba_kernels.py` must change too.
"""

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


def _pointer(context, builder, kind, array, place):
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), _VALUES.as_pointer())


@intrinsic
def load(typing, array, place):
    """Values `place` .. `place` + 15 of an array."""

    def generate(context, builder, signature, args):
        return builder.load(_pointer(context, builder, signature.args[0], *args), align=4)

    return _vector(array, types.intp), generate


@intrinsic
def store(typing, array, place, value):
    """Write values `place` .. `place` + 15 of an array."""

    def generate(context, builder, signature, args):
        into = _pointer(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], into, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def prefetch(typing, array, place):
    """Ask for the cache line of one value; it may lie outside of the array."""

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


@intrinsic
def multiply_add(typing, a, b, c):
    """a b + c."""

    def generate(context, builder, signature, args):
        product = builder.fmul(args[0], args[1], flags=_FUSED)
        return builder.fadd(product, args[2], flags=_FUSED)

    return _vector(a, b, c), generate


@intrinsic
def multiply(typing, a, b):
    """a b."""

    def generate(context, builder, signature, args):
        return builder.fmul(*args)

    return _vector(a, b), generate


@intrinsic
def add(typing, a, b):
    """a + b."""

    def generate(context, builder, signature, args):
        return builder.fadd(*args)

    return _vector(a, b), generate


@intrinsic
def subtract(typing, a, b):
    """a - b."""

    def generate(context, builder, signature, args):
        return builder.fsub(*args)

    return _vector(a, b), generate


@intrinsic
def absolute(typing, a):
    """|a|."""

    def generate(context, builder, signature, args):
        bits = ir.VectorType(ir.IntType(32), LANES)
        size = builder.and_(builder.bitcast(args[0], bits), ir.Constant(bits, [2**31 - 1] * LANES))
        return builder.bitcast(size, _VALUES)

    return _vector(a), generate


@intrinsic
def reciprocal(typing, a):
    """1 / a, and 1 where a is 0."""

    def generate(context, builder, signature, args):
        ones = ir.Constant(_VALUES, [1.0] * LANES)
        nothing = builder.fcmp_ordered("==", args[0], ir.Constant(_VALUES, [0.0] * LANES))
        return builder.fdiv(ones, builder.select(nothing, ones, args[0]))

    return _vector(a), generate


@intrinsic
def where_positive(typing, test, a, b):
    """a where test > 0, else b."""

    def generate(context, builder, signature, args):
        positive = builder.fcmp_ordered(">", args[0], ir.Constant(_VALUES, [0.0] * LANES))
        return builder.select(positive, args[1], args[2])

    return _vector(test, a, b), generate


@intrinsic
def before(typing, a, b):
    """The last value of a, then the first fifteen of b: each place of b, one to the left."""
    return _vector(a, b), _joined(range(LANES - 1, 2 * LANES - 1))


@intrinsic
def after(typing, a, b):
    """The last fifteen values of a, then the first of b: each place of a, one to the right."""
    return _vector(a, b), _joined(range(1, LANES + 1))


def _joined(places):
    """A choice of sixteen of the 32 values of two vectors."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(places))

    def generate(context, builder, signature, args):
        return builder.shuffle_vector(*args, mask)

    return generate


@intrinsic
def splat(typing, number):
    """A float32 sixteen times."""

    def generate(context, builder, signature, args):
        first = builder.insert_element(
            ir.Constant(_VALUES, ir.Undefined), args[0], ir.IntType(32)(0)
        )
        places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, ir.Constant(_VALUES, ir.Undefined), places)

    return _vector(types.float32), generate
