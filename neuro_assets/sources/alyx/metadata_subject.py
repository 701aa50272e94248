"""The animal as Alyx has it, and as NWB wants it. Nothing here calls a server."""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from neuro_assets.alyx.rows import Row, Text
from neuro_assets.registry.metadata import SubjectMetadata

if TYPE_CHECKING:
    from neuro_assets.science.nwb.inputs import SubjectInfo

SPECIES = {"laboratory mouse": "Mus musculus", "laboratory rat": "Rattus norvegicus"}
"""Alyx's names of the two species that it comes with; others stay as they are."""

_ZYGOSITIES = ("Absent", "Heterozygous", "Homozygous", "Present")


class SubjectRow(Row):
    """A subject's own page; fields as in Alyx."""

    nickname: Text = ""
    species: Text = ""
    sex: Text = ""
    birth_date: date | None = None
    strain: Text = ""
    line: Text = ""
    description: Text = ""
    genotype: Any = None
    weighings: Any = None


def subject_metadata(row: SubjectRow, name: str, day: date | None) -> SubjectMetadata:
    """Describe an animal on the day of a session.

    Parameters
    ----------
    row : SubjectRow
        Its page.
    name : str
        As the session has it.
    day : date or None
        Of the session; without one no weighing is the right one.

    Returns
    -------
    SubjectMetadata
        Unknown fields are empty.
    """
    weight, weighed = _weight(row.weighings, day)
    species = row.species.strip()
    return SubjectMetadata(
        nickname=row.nickname or name,
        species=SPECIES.get(species.lower(), species),
        sex=row.sex.strip().upper()[:1],
        birth_date=row.birth_date,
        strain=row.strain,
        line=row.line,
        genotype=_genotype(row.genotype),
        description=row.description,
        weight_g=weight,
        weighed=weighed,
    )


def _genotype(value: Any) -> str:
    """Join alleles with their zygosity; on the wire texts, or numbers as in Alyx's tables."""
    alleles = []
    for item in value if isinstance(value, list) else []:
        if isinstance(item, str):
            alleles.append(item.strip())
        elif isinstance(item, dict) and item.get("allele"):
            zygosity = item.get("zygosity")
            if isinstance(zygosity, int) and 0 <= zygosity < len(_ZYGOSITIES):
                zygosity = _ZYGOSITIES[zygosity]
            alleles.append(f"{item['allele']} {zygosity or ''}".strip())
    return "; ".join(allele for allele in alleles if allele)


def _weight(weighings: Any, day: date | None) -> tuple[float | None, datetime | None]:
    """Take the last weighing up to the end of a day: weight in g, and when."""
    found: list[tuple[datetime, float]] = []
    for item in weighings if isinstance(weighings, list) else []:
        try:
            when = datetime.fromisoformat(str(item["date_time"])).replace(tzinfo=None)
            weight = float(item["weight"])
        except (KeyError, TypeError, ValueError):
            continue  # one line of a long list that people typed
        if math.isfinite(weight) and weight > 0 and day is not None and when.date() <= day:
            found.append((when, weight))
    if not found:
        return None, None
    when, weight = max(found)
    return weight, when


def subject_info(metadata: SubjectMetadata, session_date: date) -> SubjectInfo:
    """Make of the animal what NWB wants.

    Parameters
    ----------
    metadata : SubjectMetadata
        As the database has it.
    session_date : date
        Day of the session, on which the age is counted.

    Returns
    -------
    SubjectInfo
        Unknown fields are None.
    """
    from neuro_assets.science.nwb.inputs import SubjectInfo

    born = metadata.birth_date
    days = (session_date - born).days if born else -1
    line = f"line {metadata.line}" if metadata.line else ""
    return SubjectInfo(
        species=metadata.species or None,
        sex=metadata.sex if metadata.sex in ("M", "F", "U", "O") else None,
        age=f"P{days}D" if days >= 0 else None,
        date_of_birth=datetime(born.year, born.month, born.day) if born else None,
        weight=f"{metadata.weight_g:g} g" if metadata.weight_g else None,
        genotype=metadata.genotype or None,
        strain=metadata.strain or None,
        description="; ".join(part for part in (metadata.description, line) if part) or None,
    )
