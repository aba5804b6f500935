"""The recipes of docs/front-end-libraries.md as pages, built by Vite.

The package comes from its tarball, the libraries from their registry, and the requests go to a
protected application. Only Tencent's script is a test double.
"""

from __future__ import annotations

from npm_project import BROWSER, LIBRARIES, blocks, run

EXPORT = 'import * as recipe from "./NAME"; window.recipe = recipe;'
RENDER = 'import { pageOf, render } from "./render.jsx"; import * as recipe from "./NAME";'
ANGULAR = 'import "@angular/compiler"; import "./NAME";'
CLIENT = 'import { http } from "@inertiajs/core"; window.http = http;'

# Each page: its section, the number of its script there, and the page's own script.
PAGES = {
    "fetch": ("fetch", 0, EXPORT),
    "axios": ("axios", 0, EXPORT),
    "xhr-form": ("XMLHttpRequest and FormData", 0, EXPORT),
    "xhr": ("XMLHttpRequest and FormData", 1, EXPORT),
    "turbo": ("Turbo", 0, EXPORT),
    "htmx": ("htmx", 0, EXPORT),
    "htmx2": ("htmx", 1, EXPORT),
    "unpoly": ("Unpoly", 0, EXPORT),
    "alpine": ("Alpine AJAX", 0, EXPORT),
    "jquery": ("jQuery", 0, EXPORT),
    "ky": ("ky", 0, EXPORT),
    "query": ("React Query", 0, f"{RENDER} render(pageOf(recipe));"),
    "swr": ("SWR", 0, f"{RENDER} render(pageOf(recipe));"),
    "react": ("React actions", 0, f"{RENDER} render(recipe.Login);"),
    "angular": ("Angular", 0, ANGULAR),
    "inertia": ("Inertia", 0, EXPORT + CLIENT),
}


def write(folder, name, body):
    head = f'<!doctype html><html lang="en"><title>{name}</title>'
    (folder / f"{name}.html").write_text(f"{head}<main>{body}</main>")


def write_recipe(folder, name, title, number, entry):
    html = "".join(text for _, text in blocks(LIBRARIES, title, "html"))
    language, script = blocks(LIBRARIES, title, "js", "jsx", "ts")[number]
    if name == "htmx2":  # the name that two versions of htmx have
        script = script.replace('"htmx.org"', '"htmx2"')
        html = html.replace("<button hx-get", "<button data-captcha hx-get")
    (folder / f"{name}.{language}").write_text(script)
    entry = entry.replace("NAME", f"{name}.{language}")
    write(folder, name, f'{html}<script type="module">{entry}</script>')


def write_documented_forms(folder):
    """Write the two forms of browser.md, with what keeps the module out of the bundle."""
    (_, tag), _, (_, script) = blocks(BROWSER, "Two lines", "html", "js")
    (_, ignored), (_, config) = blocks(LIBRARIES, "Vite without the package", "html", "js")
    plain = ignored.replace("vite-ignore ", "")
    assert plain in tag
    write(folder, "tag", tag.replace(plain, ignored))
    bare = '<script type="module">import "tcaptcha-middleware";</script>'
    write(folder, "bare", tag.replace(plain.strip(), bare))
    write(folder, "external", f'<script type="module">{script}</script>')
    (folder / "documented.js").write_text(config)


def build(project):
    """Write the pages into the project, and return the folder with the build."""
    ((_, module),) = blocks(LIBRARIES, "The npm package", "js")
    (project / "captcha.js").write_text(module)
    for name, row in PAGES.items():
        write_recipe(project, name, *row)
    write_documented_forms(project)
    for name in ("query", "swr"):
        script = f'import {{ show }} from "./defaults.jsx"; show("{name}");'
        write(project, f"defaults-{name}", f'<script type="module">{script}</script>')
    ((_, form),) = blocks(LIBRARIES, "Turbo", "html")
    script = 'window.load = () => import("./captcha.js")'
    write(project, "beside", f'{form}<script type="module">{script}</script>')
    for file in project.glob("elements-*.js*"):
        write(project, file.stem, f'<script type="module" src="{file.name}"></script>')
    ((_, worker),) = blocks(LIBRARIES, "Service workers", "js")
    (project / "public").mkdir(exist_ok=True)
    (project / "public/worker.js").write_text(worker)
    run(project, "npx", "vite", "build", "--config", "recipes.config.js")
    return project / "dist"
