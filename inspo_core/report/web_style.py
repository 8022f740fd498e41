"""The frame of the HTML report. It asks for nothing from elsewhere.

Its one script is for Kubeflow, which shows HTML as the ``srcdoc`` of a frame: there a link to a place on the page would open the
page around it.
"""

from string import Template

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header id="top">
<h1>$title</h1>
$summary
</header>
<nav>
$navigation
</nav>
<main>
$sections
</main>
<script>
if (location.href.startsWith("about:srcdoc")) {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link) {
      event.preventDefault();
      document.getElementById(decodeURIComponent(link.hash.slice(1))).scrollIntoView();
    }
  });
}
</script>
</body>
</html>
""")

STYLE = """
:root {
  --ink: #1c2126; --soft: #5a646e; --page: #ffffff; --panel: #f4f6f8; --line: #d5dbe1; --link: #0b5cad; --bar: #5b9bd5;
  --bad: #a3260b; --bad-panel: #fdeee9;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ec; --soft: #a3adb7; --page: #15191d; --panel: #1f252b; --line: #38424c; --link: #7fbcf5; --bar: #3f7fb8;
    --bad: #ff9d85; --bad-panel: #3a1f18;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 3.2rem; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
header, main { max-width: 1320px; margin: 0 auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin: 1.2rem 0 0.3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 0.5rem; padding-bottom: 0.2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.5rem 0 0.4rem; }
p { max-width: 62rem; margin: 0.4rem 0; }
a { color: var(--link); }
small, .soft { color: var(--soft); }
small { font-size: 0.84em; }
nav { position: sticky; top: 0; z-index: 3; background: var(--panel); border-block: 1px solid var(--line); margin-top: 0.8rem; }
nav ul { display: flex; gap: 0.2rem 1.2rem; max-width: 1320px; margin: 0 auto; padding: 0.45rem 1.2rem; overflow-x: auto; }
nav ul, .places { list-style: none; }
nav a { white-space: nowrap; text-decoration: none; }
.places { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; padding: 0; }
.wide { overflow-x: auto; margin: 0.5rem 0; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { background: var(--panel); white-space: nowrap; }
tbody th { position: sticky; left: 0; z-index: 1; background: var(--page); font-weight: 600; white-space: nowrap; }
tbody tr:hover > * { background-color: var(--panel); }
td.number { white-space: nowrap; }
td.number b { font-weight: 600; }
td.share { background: linear-gradient(90deg, var(--bar) calc(var(--share) * 1%), transparent 0) no-repeat left bottom / 100% 5px; }
td.long { overflow-wrap: anywhere; min-width: 16rem; }
.failed { color: var(--bad); }
.warning { background: var(--bad-panel); border-left: 4px solid var(--bad); padding: 0.5rem 0.9rem; border-radius: 4px; max-width: 62rem; }
figure { margin: 0.8rem 0 1.6rem; }
figure > div { overflow-x: auto; background: #ffffff; border: 1px solid var(--line); border-radius: 6px; padding: 0.5rem; }
figure img { display: block; min-width: 44rem; max-width: 100%; height: auto; }
figcaption { color: var(--soft); max-width: 62rem; margin-bottom: 0.4rem; }
figcaption h3 { color: var(--ink); }
summary { cursor: pointer; color: var(--link); }
code { font-family: ui-monospace, monospace; font-size: 0.9em; overflow-wrap: anywhere; }
@media print { nav { display: none; } .wide, figure > div { overflow: visible; } }
"""
