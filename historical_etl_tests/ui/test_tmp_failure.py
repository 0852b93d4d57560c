import pytest
pytestmark=[pytest.mark.ui]
def test_fail(visitor, webserver):
    with visitor.telling():
        visitor.open("/assets/price_catalog")
        visitor.sees("DuckDB file with the views")
        p=visitor.page
        p.get_by_role("button", name="Hide navigation").click()
        print([b.aria_snapshot() for b in p.get_by_role("button").all()][:8])
        print([b.get_attribute("aria-label") for b in p.get_by_role("button").all()])
        p.get_by_role("button", name="Materialize", exact=False).first.click()
        p.wait_for_timeout(500)
        visitor.page.evaluate("fetch('/graphql',{method:'POST',headers:{'content-type':'application/json'},body:JSON.stringify({query:'{nope}'})})")
        p.wait_for_timeout(500)
        visitor.sees("Overview")
