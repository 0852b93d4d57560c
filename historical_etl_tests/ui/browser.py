"""Somebody who reads and clicks, and who tells what was on the screen when a test fails."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from playwright.sync_api import Error, Locator, Page, Playwright, expect

from historical_etl_tests.ui.webserver import Webserver

_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SIZE: Final = {"width": 1440, "height": 1000}
#: Milliseconds; the machine may be busy.
_TIMEOUT: Final = 600_000
_UNCAUGHT: Final = "Uncaught: "
_GRAPHQL: Final = "GraphQL error: "
#: Errors that the page swallows: Dagster answers with status 200 and a PythonError inside.
_REPORT_ERRORS: Final = """
const ask = window.fetch;
window.fetch = async (...call) => {
  const response = await ask(...call);
  if (response.url.includes('/graphql')) {
    response.clone().text().then((text) => {
      if (text.includes('"__typename":"PythonError"') || text.includes('"__typename": "PythonError"')
          || JSON.parse(text).errors?.length) console.error('GraphQL error: ' + text.slice(0, 2000));
    }).catch(() => {});
  }
  return response;
};
"""
_TROUBLE: Final = (
    "Something went wrong",
    "PythonError",
    "An unexpected error",
    "Unexpected GraphQL error",
    "Traceback",
    "Failed to load",
    "Could not find",
    "Sorry, ",
)


@dataclass
class Visitor:
    page: Page
    server: Webserver
    folder: Path
    pictures: Path | None = None
    console: list[str] = field(default_factory=list[str])

    @classmethod
    @contextmanager
    def opening(
        cls, playwright: Playwright, program: Path, server: Webserver, folder: Path, pictures: Path | None
    ) -> Generator["Visitor"]:
        """A browser that knows nothing of an earlier session."""
        expect.set_options(timeout=_TIMEOUT)
        context = playwright.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=program,
            args=list(_FLAGS),
            viewport=_SIZE,  # pyright: ignore[reportArgumentType] - a dict is what Playwright asks for
            locale="en-US",
            timezone_id="UTC",
        )
        try:
            context.set_default_timeout(_TIMEOUT)
            context.add_init_script(_REPORT_ERRORS)
            visitor = cls(context.new_page(), server, folder, pictures)
            visitor.page.on("console", lambda said: visitor._hear(said.type, said.text, said.location["url"]))
            visitor.page.on("pageerror", lambda error: visitor._hear("error", f"{_UNCAUGHT}{error}", server.url))
            yield visitor
        finally:
            context.close()

    @contextmanager
    def reporting(self) -> Generator[None]:
        """Add to a failure: what was on the screen, in the console, and in the log."""
        try:
            yield
        except (AssertionError, Error) as error:
            shot = self.folder / "failure.png"
            try:
                self.page.screenshot(path=shot)
            except Error:
                shot = None
            heard = "\n".join(self.console) or "nothing"
            raise AssertionError(
                f"{error}\n\nPage: {self.page.url}\nScreenshot: {shot}\nErrors in the console:\n{heard}\n"
                f"End of {self.server.log}:\n{self.server.log_tail()}"
            ) from error

    def open(self, path: str) -> None:
        self.page.goto(self.server.url + path)

    def link(self, name: str) -> Locator:
        """A link by what it says; Dagster's links begin with the name of their icon."""
        return self.page.get_by_role("link").filter(has_text=name).first

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).first.click()

    def sees(self, *texts: str) -> None:
        """Each text is on the screen, and no trouble is."""
        for text in texts:
            expect(self.page.get_by_text(text).filter(visible=True).first, f"{text!r} is not shown").to_be_visible()
        self.sees_no_trouble()

    def sees_no_trouble(self) -> None:
        shown = self.page.locator("body").inner_text()
        trouble = [text for text in _TROUBLE if text in shown]
        assert not trouble, f"the page says {trouble}:\n{shown}"
        errors = [line for line in self.console if line.startswith((_GRAPHQL, _UNCAUGHT))]
        assert not errors, f"the page met {len(errors)} error(s)"

    def picture(self, name: str, *, wide: bool = False) -> None:
        """Save the screen for the documentation, if that is asked for; `wide` folds the navigation away."""
        if self.pictures is None:
            return
        if wide:
            self.page.get_by_role("button", name="Hide navigation").click()
        self.looks_away()
        for passing in ("Loading", "Created backfill"):
            expect(self.page.get_by_text(passing)).to_have_count(0)
        self.page.wait_for_timeout(1000)  # lists show that they are refreshed by a line without a text
        self.page.screenshot(path=self.pictures / f"{name}.png", animations="disabled", caret="hide")
        if wide:
            self.page.get_by_role("button", name="panel_show_").click()

    def looks_away(self) -> None:
        """Take the mouse off everything: a message under it stays."""
        self.page.mouse.move(1, _SIZE["height"] - 1)

    def _hear(self, kind: str, text: str, source: str) -> None:
        # What our own script says has no address.
        if kind == "error" and (source.startswith(self.server.url) or text.startswith(_GRAPHQL)):
            self.console.append(f"{text} ({source or 'fetch'})")
