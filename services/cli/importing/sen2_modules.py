"""The modules of the SEN2 person-level return, with the column names that the Department's own CSV export has.

Every module has a row id and, but for the first, the id of its parent's row. Names are compared without case, spaces and
punctuation; another export's names are given in a profile. Which columns become what of a plan: ``sen2.py``.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Module:
    """``columns`` begin with the row id and the parent's id, as far as there are any."""

    title: str
    parent: str | None
    columns: tuple[str, ...]
    files: tuple[str, ...]
    """How a file's name ends, without ``.csv``, punctuation and case."""
    required: tuple[str, ...] = ()
    """Columns besides the ids that must be there."""
    needed: bool = True
    """False: the file may be missing, since nothing of a plan is lost without it."""

    @property
    def id(self) -> str:
        return self.columns[0]

    @property
    def parent_id(self) -> str:
        return self.columns[1]


MODULES = {
    "sen2": Module("0 SEN2", None, ("sen2tableid", "lea"), ("sen2",), needed=False),
    "person": Module(
        "1 person", None,
        ("persontableid", "nativeid", "surname", "forename", "personbirthdate", "sex", "ethnicity", "postcode", "upn",
         "uniquelearnernumber", "upnunknown", "nhsnumber", "casereference", "address1", "address2", "address3", "address4"),
        ("person",), required=("surname", "forename", "personbirthdate"),
    ),
    "requests": Module(
        "2 requests", "person",
        ("requeststableid", "persontableid", "nativeid", "receiveddate", "requestsource", "rya", "requestoutcomedate",
         "requestoutcome", "requestmediation", "requesttribunal", "exported", "casereference"),
        ("requests", "request"),
    ),
    "assessment": Module(
        "3 assessment", "requests",
        ("assessmenttableid", "requeststableid", "nativeid", "assessmentoutcome", "assessmentoutcomedate",
         "assessmentmediation", "assessmenttribunal", "othermediation", "othertribunal", "week20"),
        ("assessment", "assessments"),
    ),
    "namedplan": Module(
        "4a named plan", "assessment",
        ("namedplantableid", "assessmenttableid", "nativeid", "startdate", "planres", "planwbp", "pb", "oa", "dp", "ceasedate",
         "ceasereason", "notifiedon", "casereference", "issuedon"),
        ("namedplan", "namedplans"), required=("startdate",),
    ),
    "plandetail": Module(
        "4b plan detail", "namedplan",
        ("plandetailtableid", "namedplantableid", "nativeid", "urn", "ukprn", "sensetting", "sensettingother", "placementrank",
         "senunitindicator", "resourcedprovisionindicator"),
        ("plandetail", "plandetails"),
    ),
    "activeplans": Module(
        "5a active plans", "requests",
        ("activeplanstableid", "requeststableid", "nativeid", "transferla", "reviewmeeting", "reviewoutcome", "reviewdraft",
         "phasetransferduedate", "phasetransferfinaldate", "lastreview", "issuedon"),
        ("activeplans", "activeplan"),
    ),
    "placementdetail": Module(
        "5b placement", "activeplans",
        ("placementdetailtableid", "activeplanstableid", "nativeid", "urn", "ukprn", "sensetting", "sensettingother",
         "placementrank", "entrydate", "leavingdate", "res", "wbp", "senunitindicator", "resourcedprovisionindicator"),
        ("placementdetail", "placementdetails", "placement", "placements"), required=("entrydate", "leavingdate"),
    ),
    "senneed": Module(
        "5c need", "activeplans",
        ("senneedtableid", "activeplanstableid", "nativeid", "sentype", "sentyperank"),
        ("senneed", "need", "needs"), needed=False,
    ),
    "family": Module(
        "family (not part of SEN2)", "person",
        ("familytableid", "persontableid", "reference", "role", "name", "email", "address1", "address2", "address3", "address4",
         "postcode"),
        ("family",), required=("name",), needed=False,
    ),
}  # fmt: skip

SETTINGS = {
    "OLA": "Other arrangement made by the council",
    "OPA": "Other arrangement made by the parents",
    "EHE": "Elective home education",
    "EYP": "Early years provider",
    "OTH": "Other",
    "NEET": "Not in education, employment or training",
    "NIEC": "Not in education (SEN2: NIEC)",
    "NIEO": "Not in education (SEN2: NIEO)",
}
NEEDS = ("SPLD", "MLD", "SLD", "PMLD", "SEMH", "SLCN", "HI", "VI", "MSI", "PD", "ASD", "DS", "OTH")
