"""Notes in PostgreSQL, over HTTP: a small application with FastAPI, to start one's own from.

`/docs` describes it. Settings are variables of the environment: POSTGRES_HOST, POSTGRES_PORT, POSTGRES_DATABASE and
POSTGRES_SECRET, the folder with the files username and password.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import psycopg
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from psycopg.rows import dict_row
from pydantic import BaseModel, Field

TABLE = """
CREATE TABLE IF NOT EXISTS notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text text NOT NULL,
    written timestamptz NOT NULL DEFAULT now()
)
"""
REQUESTS = Counter("http_requests", "Requests, by path, method and status.", ["path", "method", "status"])
SECONDS = Histogram("http_request_seconds", "How long requests took, in seconds.", ["path", "method"])

app = FastAPI(title="Notes", version="0.1.0")


class NewNote(BaseModel):
    """A note as it is written."""

    text: str = Field(min_length=1, max_length=2000)


class Note(NewNote):
    """A note as it is kept."""

    id: int
    written: datetime


Connection = psycopg.Connection[dict[str, Any]]


def connection() -> Iterator[Connection]:
    """A connection for one request; the password is read each time, since it may have been replaced."""
    secret = Path(os.environ["POSTGRES_SECRET"])
    try:
        opened = psycopg.connect(
            host=os.environ["POSTGRES_HOST"],
            port=int(os.environ["POSTGRES_PORT"]),
            dbname=os.environ["POSTGRES_DATABASE"],
            user=(secret / "username").read_text(encoding="utf-8").strip(),
            password=(secret / "password").read_text(encoding="utf-8").strip(),
            connect_timeout=5,
            row_factory=dict_row,
        )
    except (OSError, psycopg.OperationalError):
        raise HTTPException(503, "the database does not answer") from None
    with opened:
        opened.execute(TABLE)
        yield opened


Database = Annotated[Connection, Depends(connection)]


@app.middleware("http")
async def measure(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Count requests by the path as it is declared: one with numbers in it would be a metric each."""
    start = time.perf_counter()
    response = await answer(request)
    path = getattr(request.scope.get("route"), "path", "none")
    REQUESTS.labels(path, request.method, response.status_code).inc()
    SECONDS.labels(path, request.method).observe(time.perf_counter() - start)
    return response


@app.get("/healthz", include_in_schema=False)
def healthz() -> dict[str, str]:
    """Whether the application itself works; a database that is away is nothing that a restart mends."""
    return {"status": "ok"}


@app.get("/metrics", include_in_schema=False)
def metrics() -> Response:
    """What Prometheus reads."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@app.get("/notes")
def notes(database: Database, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[Note]:
    """The newest notes."""
    rows = database.execute("SELECT id, text, written FROM notes ORDER BY id DESC LIMIT %s", (limit,))
    return [Note.model_validate(row) for row in rows]


@app.post("/notes", status_code=201)
def write(note: NewNote, database: Database) -> Note:
    """Write a note."""
    row = database.execute("INSERT INTO notes (text) VALUES (%s) RETURNING id, text, written", (note.text,)).fetchone()
    return Note.model_validate(row)
