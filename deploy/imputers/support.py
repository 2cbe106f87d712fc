"""Whom an imputer is fitted on: digests of unit ids for the file's metadata, by which a site finds its own patients.

Each id stands as the first 16 bytes of SHA-256(salt || id), and the salt follows from the ids, as `imputer fit` writes them.
"""

import csv
import hashlib

SALT_KEY, UNITS_KEY = "fusiondp.support.unit_salt", "fusiondp.support.units"
BYTES = 16


def unit_column(study):
    """Column that names the study's privacy unit, or None."""
    import tomllib  # from Python 3.11 on; the rest needs less

    with open(study, "rb") as file:
        return tomllib.load(file).get("privacy", {}).get("unit_column")


def ids(path, column):
    """Unit ids of a CSV file; None where the column is not there."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if column not in (reader.fieldnames or []):
            return None
        return {record[column].strip() for record in reader} - {""}


def metadata(units):
    """The two metadata entries of these ids."""
    known = sorted(unit.encode() for unit in units)
    sized = b"".join(len(unit).to_bytes(8, "little") + unit for unit in known)
    salt = hashlib.sha256(b"fusiondp support salt v1\0" + sized).digest()[:BYTES]
    entries = sorted(hashlib.sha256(salt + unit).digest()[:BYTES] for unit in known)
    return {SALT_KEY: salt.hex(), UNITS_KEY: b"".join(entries).hex()}


def describe(study, path):
    """Metadata of the support data, and a sentence about it."""
    column = unit_column(study)
    if column is None:
        return {}, "the study names no unit column: the file lists no support patients, and sites cannot look for their own"
    units = ids(path, column)
    if not units:
        return {}, f"{path} has no ids in column {column}: the file lists no support patients, and sites cannot look for their own"
    return metadata(units), f"the file lists {len(units)} support patients by digest"
