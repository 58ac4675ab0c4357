"""The lab's images hold what building from source needs: hosts have no way out to fetch it."""

import pytest

from lab import archive, image
from tests.fake_source import build_module
from tests.unit.modules.test_haproxy_build import ARTICLE

WITHOUT_PCRE_1 = ("trixie", "forky")


def held(release):
    return {*image.PACKAGES, *image.PACKAGES_OF.get(release, []), *archive.PACKAGES}


def needed(program, version, **options):
    return set(build_module(program).plan(version, options=options)["dependencies"])


def test_an_image_holds_what_building_both_programs_needs_and_no_more():
    both = needed("haproxy", "2.6.12") | needed("keepalived", "2.2.7")
    assert set(image.BUILD_PACKAGES) == both


@pytest.mark.parametrize("release", image.RELEASES)
def test_an_image_holds_what_the_article_s_options_need_where_debian_has_it(release):
    lacks = {"libpcre3-dev"} if release in WITHOUT_PCRE_1 else set()
    assert needed("haproxy", "2.6.12", **ARTICLE) - held(release) == lacks
