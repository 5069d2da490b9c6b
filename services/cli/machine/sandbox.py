"""Where the sandbox keeps what stands for the world outside: directory, sample plans, patients."""

from pathlib import Path

SANDBOX = Path(__file__).resolve().parents[3] / "deploy" / "sandbox"
DIRECTORY = SANDBOX / "directory.json"
PLANS = SANDBOX / "plans"
PATIENTS = PLANS / "patients.json"
