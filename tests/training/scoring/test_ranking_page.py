"""The ranking page in a real browser: what a person does with it comes back as mean ranks."""

import json
from pathlib import Path

import pytest

from tests.stream.browser import chromium
from training.scoring.ranking import CRITERIA, key_path, make_page, read_ranks, write_page

pytestmark = pytest.mark.devices


async def test_person_who_always_puts_one_system_first_is_read_so(
    truth: Path, same: Path, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    write_page(make_page({"mine": same}, truth), out)
    tokens = json.loads(key_path(out).read_text())["tokens"]
    async with chromium() as browser:
        page = await browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        await page.goto(out.as_uri())
        await page.click("#start")
        for clip in range(2):
            assert f"Clip {clip + 1} of 2" in await page.inner_text("#progress")
            await page.click("#next")
            assert "another rank" in await page.inner_text("#problem")
            selects = await page.query_selector_all("select")
            assert len(selects) == 2 * len(CRITERIA)
            for select in selects:
                token = await select.get_attribute("data-token")
                assert token is not None
                await select.select_option("1" if tokens[token]["system"] == "mine" else "2")
            await page.click("#next")
        async with page.expect_download() as download:
            await page.click("#save")
        await (await download.value).save_as(tmp_path / "ballot.json")
        assert problems == []
    mine, true = read_ranks(key_path(out), [tmp_path / "ballot.json"])
    assert {e.value for e in mine.ranks.values()} == {1}
    assert {e.value for e in true.scores.values()} == {1}
    assert (mine.people, mine.votes) == (1, 2)
