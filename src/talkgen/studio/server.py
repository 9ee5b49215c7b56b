"""The studio's addresses. Everything that takes time runs outside the event loop."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from talkgen import __version__
from talkgen.errors import TalkgenError
from talkgen.studio.consent import TEXT, Consents
from talkgen.studio.corpus_pages import Corpora
from talkgen.studio.examples import Examples
from talkgen.studio.folder_size import keep_within
from talkgen.studio.guard import App, Guard
from talkgen.studio.job_request import MOST_VARIANTS, TASKS, read_order
from talkgen.studio.jobs import WORKER, Busy, Job, Jobs
from talkgen.studio.run_pages import list_runs, run_page, sample_file
from talkgen.studio.settings import MEGABYTE, StudioSettings, is_loopback
from talkgen.studio.trained_methods import find_methods
from talkgen.studio.uploads import TooLarge, Uploads

PAGE = Path(__file__).with_name("page")
STATIC = ("studio.css", "studio.js", "fields.js", "results.js", "browse.js")
_BODY_BYTES = 64 * 1024  # of a request that is no upload
_HOUR = {"cache-control": "private, max-age=3600"}
Endpoint = Callable[[Request], Awaitable[Response]]


class Refused(TalkgenError):
    """A request that is answered with a status of its own."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Studio:
    """What the addresses share.

    Args:
        settings: limits and folders.
        worker: command of the process in which networks run.
    """

    def __init__(self, settings: StudioSettings, worker: tuple[str, ...] = WORKER) -> None:
        settings.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(settings.temporary, ignore_errors=True)
        for folder in (settings.temporary, settings.cache):
            folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.uploads = Uploads(settings)
        self.jobs = Jobs(settings, worker)
        self.consents = Consents(settings)
        self.examples = Examples(settings, self.uploads)
        self.corpora = Corpora(settings.prepared, settings.cache)

    # The page -----------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        """The one page."""
        return HTMLResponse((PAGE / "index.html").read_text("utf-8"), headers={"cache-control": "no-cache"})

    async def static(self, request: Request) -> Response:
        """Style and scripts."""
        name = request.path_params["name"]
        if name not in STATIC:
            raise Refused(404, "there is no such file")
        return FileResponse(PAGE / name, headers={"cache-control": "no-cache"})

    async def state(self, request: Request) -> Response:
        """What the page needs to begin."""
        from talkgen.audio.speech import voices

        found = await run_in_threadpool(find_methods, self.settings.runs)
        settings = self.settings
        return JSONResponse(
            {
                "version": __version__,
                "methods": [method.shown() for method in found],
                "runs": str(settings.runs),
                "consent": {"given": self.consents.has(_session(request)), "text": TEXT},
                "limits": {
                    "megabytes": settings.upload_bytes / MEGABYTE,
                    "seconds": settings.upload_seconds,
                    "letters": settings.text_letters,
                    "variants": MOST_VARIANTS,
                },
                "voices": [voice.name for voice in voices()],
                "languages": {"en": "English", "zh": "Chinese"},
                "examples": await run_in_threadpool(self.examples.available),
                "open": not is_loopback(settings.host),
            }
        )

    async def consent(self, request: Request) -> Response:
        """The user agrees."""
        await run_in_threadpool(self.consents.give, _session(request))
        return JSONResponse({"given": True})

    # Files --------------------------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        """Take a file: the body of the request."""
        self._agreed(request)
        stated = request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > self.settings.upload_bytes:
            most = self.settings.upload_bytes / MEGABYTE
            raise TooLarge(f"the file is larger than {most:.0f} MB; give a shorter or smaller one")
        name = request.query_params.get("name", "file")
        upload = await self.uploads.receive(request.stream(), name, _session(request))
        await run_in_threadpool(keep_within, self.settings, self.uploads, self.jobs)
        return JSONResponse(upload.shown(), status_code=201)

    async def example(self, request: Request) -> Response:
        """Files of the demo corpus for a tab."""
        self._agreed(request)
        task = request.path_params["task"]
        if task not in TASKS:
            raise Refused(404, "there is no such tab")
        return JSONResponse(await self.examples.of(task))

    async def upload_media(self, request: Request) -> Response:
        """What a browser shows of an upload."""
        at = request.path_params
        return _file(self.uploads.media(at["id"], at["name"], _session(request)))

    # Jobs ---------------------------------------------------------------------------------------------------

    async def submit(self, request: Request) -> Response:
        """Put a job into the queue."""
        self._agreed(request)
        given = await _json(request)
        trained = await run_in_threadpool(find_methods, self.settings.runs)
        session = _session(request)
        order, used = await run_in_threadpool(
            read_order, given, session, self.uploads, trained, self.settings
        )
        job = self.jobs.submit(order, session, [upload.id for upload in used])
        await run_in_threadpool(keep_within, self.settings, self.uploads, self.jobs)
        return JSONResponse(job.shown(self.jobs.place(job)), status_code=201)

    async def list_jobs(self, request: Request) -> Response:
        """The user's jobs, newest first."""
        return JSONResponse([job.shown(self.jobs.place(job)) for job in self.jobs.of(_session(request))])

    async def show_job(self, request: Request) -> Response:
        """One job."""
        job = self._job(request)
        return JSONResponse(job.shown(self.jobs.place(job)))

    async def cancel(self, request: Request) -> Response:
        """End a job."""
        job = self._job(request)
        await run_in_threadpool(self.jobs.cancel, job)
        return JSONResponse(job.shown(0))

    async def forget(self, request: Request) -> Response:
        """Delete a job and what it made."""
        await run_in_threadpool(self.jobs.forget, self._job(request))
        return JSONResponse({})

    async def job_media(self, request: Request) -> Response:
        """What a job made."""
        at = request.path_params
        return _file(self.jobs.media(at["id"], at["name"], _session(request)))

    # Runs and corpora ---------------------------------------------------------------------------------------

    async def runs(self, request: Request) -> Response:
        """Every run at a glance."""
        return JSONResponse(await run_in_threadpool(list_runs, self.settings.runs))

    async def run(self, request: Request) -> Response:
        """A page about one."""
        page = await run_in_threadpool(run_page, self.settings.runs, request.query_params.get("name", ""))
        if page is None:
            raise Refused(404, "there is no such run")
        return HTMLResponse(page)

    async def sample(self, request: Request) -> Response:
        """A sample of a run."""
        at = request.path_params
        return _file(await run_in_threadpool(sample_file, self.settings.runs, at["run"], at["name"]))

    async def list_corpora(self, request: Request) -> Response:
        """Prepared corpora, in numbers."""
        names = await run_in_threadpool(self.corpora.names)
        return JSONResponse([await run_in_threadpool(self.corpora.facts, name) for name in names])

    async def corpus(self, request: Request) -> Response:
        """Clips of one."""
        asked = request.query_params
        first = int(asked["first"]) if asked.get("first", "").isdecimal() else 0
        name = request.path_params["name"]
        page = await run_in_threadpool(
            self.corpora.page, name, first, asked.get("split", ""), asked.get("words", "")
        )
        if page is None:
            raise Refused(404, "there is no such corpus")
        return JSONResponse(page)

    async def clip(self, request: Request) -> Response:
        """Pictures and videos of a clip."""
        at = request.path_params
        name, number = at["name"], int(at["number"])
        if at["what"] in ("clip.mp4", "landmarks.mp4"):
            marked = at["what"] == "landmarks.mp4"
            return _file(await run_in_threadpool(self.corpora.video, name, number, marked))
        drawn = {"strip.jpg": self.corpora.strip, "source.jpg": self.corpora.source_frame}.get(at["what"])
        picture = None if drawn is None else await run_in_threadpool(drawn, name, number)
        if picture is None:
            raise Refused(404, "there is no such picture")
        return Response(picture, media_type="image/jpeg", headers=_HOUR)

    # What they share ----------------------------------------------------------------------------------------

    def _agreed(self, request: Request) -> None:
        if not self.consents.has(_session(request)):
            raise Refused(403, "first read and accept what the studio may be used for")

    def _job(self, request: Request) -> Job:
        job = self.jobs.get(request.path_params["id"], _session(request))
        if job is None:
            raise Refused(404, "there is no such job")
        return job

    def routes(self) -> list[Route]:
        """Every address."""
        get, post, delete = (partial(_route, method) for method in ("GET", "POST", "DELETE"))
        return [
            get("/", self.page),
            get("/static/{name}", self.static),
            get("/api/state", self.state),
            post("/api/consent", self.consent),
            post("/api/uploads", self.upload),
            post("/api/examples/{task}", self.example),
            get("/api/jobs", self.list_jobs),
            post("/api/jobs", self.submit),
            get("/api/jobs/{id}", self.show_job),
            post("/api/jobs/{id}/cancel", self.cancel),
            delete("/api/jobs/{id}", self.forget),
            get("/api/runs", self.runs),
            get("/api/run", self.run),
            get("/api/corpora", self.list_corpora),
            get("/api/corpora/{name}", self.corpus),
            get("/media/uploads/{id}/{name}", self.upload_media),
            get("/media/jobs/{id}/{name}", self.job_media),
            get("/media/runs/{run:path}/samples/{name}", self.sample),
            get("/media/corpora/{name}/{number:int}/{what}", self.clip),
        ]

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """The queue works as long as the server runs."""
        self.jobs.start()
        try:
            yield
        finally:
            await run_in_threadpool(self.jobs.stop)


def make_app(studio: Studio) -> App:
    """The studio as an ASGI application."""
    app = Starlette(routes=studio.routes(), lifespan=studio.lifespan)
    return Guard(app, studio.settings.host)


def _route(method: str, path: str, endpoint: Endpoint) -> Route:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except TalkgenError as error:
            return JSONResponse({"reason": str(error)}, status_code=_status(error))

    return Route(path, answer, methods=[method])


def _status(error: TalkgenError) -> int:
    if isinstance(error, Refused):
        return error.status
    return 413 if isinstance(error, TooLarge) else 429 if isinstance(error, Busy) else 400


def _session(request: Request) -> str:
    return str(request.scope["session"])


def _file(file: Path | None) -> Response:
    if file is None:
        raise Refused(404, "there is no such file")
    return FileResponse(file, headers=_HOUR)


async def _json(request: Request) -> Any:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _BODY_BYTES:
            raise Refused(413, "the request is too large")
    try:
        return json.loads(body)
    except ValueError as error:
        raise TalkgenError("the request is no JSON") from error
