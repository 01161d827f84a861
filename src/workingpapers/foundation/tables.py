"""Tables of numeric, boolean and categorical columns, from files, DataFrames and arrays."""

import csv
import gzip
import io
import numbers
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workingpapers.foundation.errors import InputError, MissingPackageError

if TYPE_CHECKING:
    import pyarrow

Kind = Literal["numeric", "boolean", "categorical"]
# Pairs of a name and the values in Arrow's, NumPy's or Python's form.
Columns = Iterable[tuple[Any, Any]]

MISSING_MARKERS = ("", "NA", "N/A", "NaN", "nan", "null", "?")
"""How a missing value is written in a CSV file."""

_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True, eq=False)
class DataTable:
    """Columns of equal length by name.

    A numeric column is float64 with NaN where a value is missing; a boolean column is bool and
    has no missing values; a categorical column is an object array of str with None where a value
    is missing. `source` is the file name, or what else the table came from, for error messages.
    """

    columns: Mapping[str, np.ndarray]
    source: str = "table"

    def __post_init__(self) -> None:
        if not self.columns:
            raise InputError(f"{self.source}: the table has no columns")
        for name, column in self.columns.items():
            if column.ndim != 1 or column.dtype not in (np.float64, np.bool_, np.object_):
                raise InputError(
                    f"{self.source}: column {name!r}: expected a float64, bool or object vector, "
                    f"got {column.dtype} of shape {column.shape}"
                )
            if len(column) != self.n_rows:
                raise InputError(
                    f"{self.source}: column {name!r}: expected {self.n_rows} values as in the "
                    f"first column, got {len(column)}"
                )

    @property
    def n_rows(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def column(self, name: str) -> np.ndarray:
        """The values of one column; InputError with the columns there are if it is not there."""
        if name not in self.columns:
            raise InputError(f"{self.source}: no column {name!r}; it has {listed(self.names)}")
        return self.columns[name]

    def kind(self, name: str) -> Kind:
        """Whether a column is numeric, boolean or categorical."""
        dtype = self.column(name).dtype
        if dtype == np.bool_:
            return "boolean"
        return "categorical" if dtype == np.object_ else "numeric"

    def missing(self, name: str) -> np.ndarray:
        """Where a column has no value, as a boolean vector."""
        column = self.column(name)
        if self.kind(name) == "numeric":
            return np.isnan(column)
        return np.array([value is None for value in column], dtype=bool)

    def select(self, names: Iterable[str]) -> "DataTable":
        """The table with only these columns, in this order."""
        return DataTable({name: self.column(name) for name in names}, self.source)

    def drop(self, names: Iterable[str]) -> "DataTable":
        """The table without these columns."""
        dropped = set(names)
        for name in dropped:
            self.column(name)
        return self.select(name for name in self.names if name not in dropped)

    def rows(self, indices: Any) -> "DataTable":
        """The table with only these rows: positions, a boolean vector or a slice."""
        return DataTable(
            {name: values[indices] for name, values in self.columns.items()}, self.source
        )


def read_table(
    source: Any, *, names: Sequence[str] | None = None, without: Collection[str] = ()
) -> DataTable:
    """Read a table from a file, a DataFrame, a mapping of columns or a two-dimensional array.

    A path leads to a Parquet file, or to a CSV file in UTF-8 (also gzipped), separated by tabs if
    it ends in .tsv, else by commas, or by semicolons or tabs where the first line has no comma. A
    DataFrame is any that narwhals knows (pandas, polars, Arrow, ...). `names` names the columns of
    an array, or of a CSV file without a header line. Columns named in `without` are left out, of
    whatever type they are. A DataTable is returned as it is.

    Missing are None, NaN, null and, in CSV, MISSING_MARKERS. A boolean column with missing values
    becomes a categorical one of "true" and "false"; a column with no value at all is numeric.
    Raises InputError in one line that names the file, and the line or column where it is known.
    """
    if isinstance(source, DataTable):
        return source.drop(without) if without else source
    if isinstance(source, str | Path):
        columns, name = _read_file(Path(source), names), str(source)
    elif isinstance(source, Mapping):
        columns, name = source.items(), "mapping of columns"
    elif isinstance(source, list | tuple) or (
        hasattr(source, "__array__") and not is_table(source)
    ):
        columns, name = _columns_of_array(source, names), "array"
    else:
        columns, name = _columns_of_frame(source), "DataFrame"
    return _table_of(columns, name, without)


def is_table(source: Any) -> bool:
    """Whether `source` has columns of its own: a file, a mapping, a DataFrame; not an array."""
    # SciPy's sparse matrix by keys is a Mapping of entries, not of columns.
    if isinstance(source, np.ndarray | list | tuple) or hasattr(source, "toarray"):
        return False
    if isinstance(source, DataTable | str | Path | Mapping):
        return True
    try:
        import narwhals
    except ImportError:
        return False
    return narwhals.dependencies.is_into_dataframe(source)


def column_text(table: DataTable, name: str) -> np.ndarray:
    """A column as an object array of text as in `value_text`, None where a value is missing."""
    column = table.column(name)
    if table.kind(name) == "categorical":
        return column
    text = np.array([value_text(value) for value in column], dtype=object)
    text[table.missing(name)] = None
    return text


def listed(names: Sequence[str], limit: int = 12) -> str:
    """Names in one line, the first `limit` of them."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _read_file(path: Path, names: Sequence[str] | None) -> Columns:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: expected a CSV or Parquet file, found a folder")
    with path.open("rb") as file:
        magic = file.read(len(_PARQUET_MAGIC))
    if magic == _PARQUET_MAGIC or path.suffix in (".parquet", ".pq"):
        table = _read_parquet(path)
    else:
        table = _read_csv(path, names)
    return zip(table.column_names, table.columns, strict=True)


def _read_parquet(path: Path) -> "pyarrow.Table":
    pa = _pyarrow()
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: not a readable Parquet file ({reason})") from error


def _read_csv(path: Path, names: Sequence[str] | None) -> "pyarrow.Table":
    pa = _pyarrow()
    import pyarrow.csv

    data = _text_bytes(path)
    header = next(line for line in io.BytesIO(data) if line.strip()).decode()
    delimiter = _delimiter(path, header)
    if names is None:
        _check_header(path, next(csv.reader([header], delimiter=delimiter)))
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(data),
            # One block: Arrow takes a column's type from the first block alone.
            pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=min(len(data), 2**31 - 1),
                column_names=None if names is None else list(names),
            ),
            pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(null_values=MISSING_MARKERS, strings_can_be_null=True),
        )
    except pa.ArrowException as error:
        reason = _ragged_row(data.decode(), delimiter, names) or str(error).partition("\n")[0]
        raise InputError(f"{path}: {reason}") from error
    columns = [_parsed(column) for column in table.columns]
    return pa.table(columns, names=[name.strip() for name in table.column_names])


def _text_bytes(path: Path) -> bytes:
    """The content of a text file, checked to be UTF-8 and to have more than blank lines."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise InputError(f"{path}: not a readable gzip file ({error})") from error
    if b"\0" in data:
        raise InputError(f"{path}: expected a CSV file in UTF-8, found binary data")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line}: expected text in UTF-8, found the byte "
            f"0x{data[error.start]:02x}; save the file as UTF-8"
        ) from error
    if not data.strip():
        raise InputError(f"{path}: the file is empty; expected a line of column names and rows")
    return data if data.endswith((b"\n", b"\r")) else data + b"\n"


def _delimiter(path: Path, header: str) -> str:
    if path.name.removesuffix(".gz").endswith((".tsv", ".tab")):
        return "\t"
    return next((mark for mark in ",;\t" if mark in header), ",")


def _check_header(path: Path, fields: list[str]) -> None:
    """InputError if the first line of a file holds numbers where its column names should be."""
    try:
        values = [float(field) for field in fields]
    except ValueError:
        return
    # Columns numbered 0, 1, 2, ... or 1, 2, 3, ... are names that a program wrote.
    first = values[0]
    counted = len(values) > 1 and values == [first + i for i in range(len(values))]
    if not (counted and first in (0.0, 1.0)):
        raise InputError(f"{path}: line 1: expected column names, found numbers ({fields[0]}, ...)")


def _ragged_row(text: str, delimiter: str, names: Sequence[str] | None) -> str | None:
    """What is wrong with the first row that has too few or too many fields; None if none has."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    expected = None if names is None else len(names)
    line = 1
    try:
        for fields in reader:
            expected = len(fields) if expected is None and fields else expected
            if fields and len(fields) != expected:
                return f"line {line}: expected {expected} fields, found {len(fields)}"
            line = reader.line_num + 1
    except csv.Error as error:
        return f"line {line}: {error}"
    return None


def _parsed(column: "pyarrow.ChunkedArray") -> "pyarrow.ChunkedArray":
    """A text column of a CSV file without blanks around its values, as numbers if all are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_temporal(column.type):
        # What Arrow takes for dates and times is words here, and so are its categories.
        return pc.cast(column, pa.string())
    if not pa.types.is_string(column.type):
        return column
    column = pc.utf8_trim_whitespace(column)
    is_missing = pc.is_in(column, value_set=pa.array(MISSING_MARKERS))
    column = pc.if_else(is_missing, pa.scalar(None, pa.string()), column)
    for type in (pa.float64(), pa.bool_()):
        try:
            return pc.cast(column, type)
        except pa.ArrowInvalid:
            continue
    return column


def _columns_of_frame(frame: Any) -> Columns:
    pa = _pyarrow()
    try:
        import narwhals
    except ImportError as error:
        raise MissingPackageError(
            "narwhals is not installed: pip install narwhals brings what DataFrames need"
        ) from error
    where = "DataFrame"
    columns = []
    try:
        native = narwhals.from_native(frame, eager_only=True)
        names = native.columns
        for name in names:
            where = f"DataFrame: column {name!r}"
            columns.append(native.get_column(name).to_arrow())
    # Arrow's type errors are TypeErrors as well, so they come first.
    except (pa.ArrowException, narwhals.exceptions.NarwhalsError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: not readable as a table ({reason})") from error
    except TypeError as error:
        raise InputError(
            "table: expected a file, a DataFrame, a mapping of columns or a two-dimensional "
            f"array, got {type(frame).__name__}"
        ) from error
    return zip(names, columns, strict=True)


def _columns_of_array(values: Any, names: Sequence[str] | None) -> Columns:
    array = _as_objects(values) if isinstance(values, list | tuple) else np.asarray(values)
    if array.ndim != 2:
        raise InputError(f"array: expected two dimensions (rows, columns), got {array.ndim}")
    if 0 in array.shape:
        raise InputError(f"array: expected rows and columns, got the shape {array.shape}")
    if names is None:
        names = [f"x{index}" for index in range(array.shape[1])]
    if len(names) != array.shape[1]:
        raise InputError(f"array: expected {array.shape[1]} column names, got {len(names)}")
    return zip(names, array.T, strict=True)


def _table_of(columns: Columns, source: str, without: Collection[str]) -> DataTable:
    """A table from its columns, with their names checked."""
    result: dict[str, np.ndarray] = {}
    absent = set(without)
    for position, (key, values) in enumerate(columns, start=1):
        name = str(key)
        if not name.strip():
            raise InputError(f"{source}: column {position} has no name")
        if name in result:
            raise InputError(f"{source}: the column name {name!r} occurs more than once")
        if name in without:
            absent.discard(name)
            continue
        result[name] = _column(values, f"{source}: column {name!r}")
    table = DataTable(result, source)
    for name in absent:
        table.column(name)
    if table.n_rows == 0:
        raise InputError(f"{source}: the table has no rows")
    return table


def _column(values: Any, where: str) -> np.ndarray:
    """One column in the form that DataTable keeps; `where` begins the error messages."""
    if type(values).__module__.startswith("pyarrow"):
        values = _from_arrow(values, where)
    elif not isinstance(values, np.ndarray):
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise InputError(f"{where}: expected a vector, got {type(values).__name__}")
        values = _as_objects(values)
    if values.ndim != 1:
        raise InputError(f"{where}: expected a vector, got {values.ndim} dimensions")
    if values.dtype.kind in "SU":
        values = values.astype(str).astype(object)
    if values.dtype.kind == "O":
        values = _from_objects(values, where)
    if values.dtype.kind not in "biufO":
        raise _unsupported(where, values.dtype)
    if values.dtype.kind in "iuf":
        values = values.astype(np.float64)
        infinite = np.flatnonzero(np.isinf(values))
        if infinite.size:
            raise InputError(f"{where}: row {infinite[0] + 1} is infinite; expected finite numbers")
    return values


def _from_arrow(column: Any, where: str) -> np.ndarray:
    import pyarrow as pa

    type = column.type
    if pa.types.is_dictionary(type):
        column = column.cast(type.value_type)
        words = [None if value is None else value_text(value) for value in column.to_pylist()]
        return _as_objects(words)
    if pa.types.is_null(type):
        return np.full(len(column), np.nan)
    if pa.types.is_integer(type) or pa.types.is_floating(type) or pa.types.is_decimal(type):
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if pa.types.is_boolean(type) or any(is_text(type) for is_text in text):
        return _as_objects(column.to_pylist())
    raise _unsupported(where, type)


def _from_objects(values: np.ndarray, where: str) -> np.ndarray:
    """Booleans, numbers or text from Python objects; None and NaN are missing."""
    is_missing = np.array(
        [
            value is None or (isinstance(value, float | np.floating) and value != value)
            for value in values
        ],
        dtype=bool,
    )
    present = values[~is_missing]
    if len(present) and all(isinstance(value, bool | np.bool_) for value in present):
        if not is_missing.any():
            return values.astype(bool)
    elif all(isinstance(value, numbers.Real) for value in present):
        numeric = np.full(len(values), np.nan)
        numeric[~is_missing] = present.astype(np.float64)
        return numeric
    result = np.full(len(values), None, dtype=object)
    for index in np.flatnonzero(~is_missing):
        value = values[index]
        if not isinstance(value, str):
            if not isinstance(value, numbers.Real | np.bool_):
                raise _unsupported(where, type(value).__name__)
            value = value_text(value)
        result[index] = value
    return result


def value_text(value: Any) -> str:
    """A value as a category: true and false in small letters, whole numbers without a point."""
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return number_text(value)
    return str(value)


def number_text(value: Any) -> str:
    """A finite number in the fewest digits that give it back; whole numbers without a point."""
    return repr(float(value)).removesuffix(".0")


def _as_objects(values: Any) -> np.ndarray:
    """An object array; NumPy left to itself turns [1, "a", None] into text."""
    return np.array(values if isinstance(values, list | tuple) else list(values), dtype=object)


def _unsupported(where: str, type: Any) -> InputError:
    return InputError(f"{where}: expected numbers, booleans or text, found {type}")


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingPackageError(
            "pyarrow is not installed: pip install pyarrow brings what files and DataFrames need"
        ) from error
    return pyarrow
