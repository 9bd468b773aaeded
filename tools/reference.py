"""The commands, the settings and the names to import, as the code has them: what the reference pages are made of."""
import ast
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pages import notebooks, page, title_and_promise
from pydantic import BaseModel
from public_names import PUBLIC

EXAMPLES = 3  # of a command, at most
TRIMMED = re.compile(r" (?:\||\|\||&&|2?>|2>&1)(?: |/|&|$)")  # from where on a line trims what a command prints
OPTION = re.compile(r" (--?[a-z][\w-]*)")
ALWAYS = {0, 2}  # exit codes of every command: it worked, or bad input was told in a sentence
FIRST = ("Workspace", "update_db", "scrape_queue", "reanalyse", "backtest", "Twin", "Panel", "World", "StoreClusterer",
         "cluster_stores")  # what one imports, in the order in which it is needed


def application() -> Any:
    "The `scrapeopt` command with everything below it."
    import typer
    importlib.import_module("scrapeopt.cli")
    return typer.main.get_command(importlib.import_module("scrapeopt.commands.options").app)


def commands(group: Any = None, path: str = "scrapeopt") -> Iterator[tuple[str, Any]]:
    "Each command that does something, by what one types, in the order of `scrapeopt --help`."
    group = application() if group is None else group
    for name in group.list_commands(None):
        one = group.commands[name]
        if one.hidden: continue
        if hasattr(one, "commands"): yield from commands(one, f"{path} {name}")
        else: yield f"{path} {name}", one


def is_option(param: Any) -> bool: return param.param_type_name == "option"


def value_name(param: Any) -> str:
    "What stands behind an option: nothing for a switch."
    if not is_option(param): return ""
    if param.is_flag or param.count: return ""
    kind = param.type_descriptor.annotation
    return param.metavar or {int: "N", float: "X", bool: ""}.get(kind, "TEXT" if kind is str else "FILE")


def typed(param: Any) -> str:
    "How an option or argument is typed."
    if not is_option(param): return f"`{param.metavar or param.name.upper()}`"
    names = ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])
    return f"{names} `{value}`" if (value := value_name(param)) else names


def default_of(param: Any) -> str:
    "What holds when an option is not given, in words."
    if param.required: return "must be given"
    if isinstance(param.show_default, str): return marked(param.show_default)
    default = param.default
    if callable(default) or default is None or default is False or default == []: return ""
    if default is True: return "yes"
    return f"`{default}`"


def limits(param: Any) -> str:
    "The numbers that an option takes, in words."
    low, high = getattr(param, "min", None), getattr(param, "max", None)
    if low is None and high is None: return ""
    return f"{low:,} or more" if high is None else f"{low:,} to {high:,}" if low is not None else f"up to {high:,}"


def meaning(param: Any) -> str:
    "What an option or argument is for."
    said = [marked(param.help or ""), f"({limits(param)})" if limits(param) else ""]
    if getattr(param, "multiple", False): said.append("May be repeated." * ("epeat" not in said[0]))
    if is_option(param) and param.envvar: said.append(f"Environment: `{param.envvar}`.")
    return " ".join(filter(None, said))


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    "A Markdown table."
    def line(cells: tuple[str, ...]) -> str: return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"
    return [line(head), "|---" * len(head) + "|", *map(line, rows)]


def callback(command: Any) -> Callable[..., Any]:
    "The function of the package behind a command."
    return inspect.unwrap(command.callback)


def exit_codes(function: Callable[..., Any]) -> set[int]:
    "The codes with which a command can end: those it raises itself or through functions beside it, and `ALWAYS`."
    tree = ast.parse(inspect.getsource(inspect.getmodule(function)))
    bodies = {d.name: d for d in tree.body if isinstance(d, ast.FunctionDef)}
    found, todo, seen = set(ALWAYS), [function.__name__], set[str]()
    while todo:
        name = todo.pop()
        if name in seen or name not in bodies: continue
        seen.add(name)
        for call in (n for n in ast.walk(bodies[name]) if isinstance(n, ast.Call)):
            if ast.unparse(call.func) == "typer.Exit":
                found |= {a.value for a in call.args if isinstance(a, ast.Constant)}
            elif isinstance(call.func, ast.Name): todo.append(call.func.id)
    return found


def typed_lines() -> Iterator[tuple[str, Path]]:
    "Every line that a notebook types into a shell and that runs scrapeopt, without what trims its output."
    for path in notebooks():
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code" or not source.startswith("%%bash"): continue
            for line in source.splitlines():
                if line.startswith("scrapeopt "): yield TRIMMED.split(line)[0].strip(), path


def examples() -> dict[str, list[tuple[str, Path]]]:
    "For each command some lines that the tutorials and chapters run, the short ones, no two with the same options."
    names, found = sorted((name for name, _ in commands()), key=len, reverse=True), {}
    for line, path in sorted(set(typed_lines()), key=lambda pair: (len(pair[0]), pair[0], str(pair[1]))):
        name = next((n for n in names if f"{line} ".startswith(f"{n} ")), None)
        if name is None or "$" in line: continue
        some = found.setdefault(name, [])
        known = [set(OPTION.findall(one)) for one, _ in some]
        if len(some) < EXAMPLES and set(OPTION.findall(line)) not in known: some.append((line, path))
    return found


def marked(text: str) -> str:
    "A text in which options look as they are typed."
    return re.sub(r"(?<![`\w-])--?[a-z][\w-]*(?![`\w])", r"`\g<0>`", text)


def promise(command: Any) -> str:
    "What a command does, in a sentence or two."
    return marked(" ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split()))


def usage(path: str, command: Any) -> str:
    "The line that one types, with what must be given."
    given = [p.metavar or p.name.upper() for p in command.params if not is_option(p)]
    shown = [word if p.required or "[" in word else f"[{word}]"
             for word, p in zip(given, [p for p in command.params if not is_option(p)], strict=True)]
    must = [f"{p.opts[0]} {value_name(p)}".strip() for p in command.params if is_option(p) and p.required]
    return " ".join([path, *shown, *must, "[OPTIONS]"])


def command_entry(path: str, command: Any, tried: list[tuple[str, Path]], keys: list[str]) -> list[str]:
    "The section of a command: what it does, how it is typed, with which options, how it ends, what it answers."
    params = [p for p in command.params if p.name != "help" and not p.hidden]
    name = path.removeprefix("scrapeopt ")
    lines = [f"({anchor(path)})=", f"## {name}", "", marked(inspect.cleandoc(command.help or "")), "",
             "```text", usage(path, command), "```", ""]
    rows = [(typed(p), default_of(p), meaning(p)) for p in sorted(params, key=is_option)]
    if rows: lines += [*table(("option", "default", "meaning"), rows), ""]
    codes = ", ".join(f"`{code}`" for code in sorted(exit_codes(callback(command))))
    lines += [f"**Exit codes:** {codes}.", ""]
    if tried:
        lines += ["**As the notebooks run it:**", "", "```bash", *(line for line, _ in tried), "```", ""]
        shown = dict.fromkeys(path for _, path in tried)
        lines += ["See " + "; ".join(f"[{title_and_promise(p)[0]}]({page(p)}.ipynb)" for p in shown) + ".", ""]
    return lines + keys


def anchor(path: str) -> str: return "command-" + path.removeprefix("scrapeopt ").replace(" ", "-")


def json_keys(answer: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    "The keys of a JSON answer with a value each; `[]` stands for the elements of a list."
    if isinstance(answer, list):
        cells = [pair for row in reversed(answer) if isinstance(row, dict) for pair in row.items()]
        whole = {key: value for key, value in cells if value not in (None, [], {})}
        if cells: yield from json_keys(dict(cells) | whole, f"{above}[].")
        elif above: yield above, answer
    elif isinstance(answer, dict) and answer:
        for key, value in answer.items():
            nested = isinstance(value, dict | list) and value and not isinstance(value, str)
            rows = isinstance(value, list) and value and not isinstance(value[0], dict)
            if not nested or rows: yield f"{above}{key}", value
            else: yield from json_keys(value, f"{above}{key}" if isinstance(value, list) else f"{above}{key}.")


def keys_entry(answer: Any) -> list[str]:
    "What a command answers with --json, key by key, folded."
    def shown(value: Any) -> str:
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 60 else f"{text[:57]}..."
    rows = [(f"`{key.replace('[].', '[] ').strip()}`", f"`{shown(value)}`") for key, value in json_keys(answer)]
    return [":::{dropdown} Keys of `--json`", *table(("key", "for instance"), rows), ":::", ""] if rows else []


def commands_page(answers: dict[str, Any]) -> str:
    "All commands: a table of what each does, then a section each."
    tried, lines = examples(), []
    rows = [(typed(p), default_of(p), meaning(p)) for p in application().params if p.name != "help"]
    overview = [(f"[`{path}`](#{anchor(path)})", promise(command)) for path, command in commands()]
    lines += [*table(("command", "does"), overview), "", "## Before any command", "",
              *table(("option", "default", "meaning"), rows), ""]
    for path, command in commands():
        keys = keys_entry(answers[path]) if path in answers else []
        lines += command_entry(path, command, tried.get(path, []), keys)
    return "\n".join(lines)


def comments(model: type[BaseModel]) -> dict[str, str]:
    "What stands behind each key of a model in the code."
    base = model.__base__
    found = comments(base) if base is not None and base.__module__ == model.__module__ else {}
    source = inspect.getsource(model)
    lines = source.splitlines()
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign) and node.target.id in model.model_fields:
            found[node.target.id] = lines[node.end_lineno - 1].encode()[node.end_col_offset:].decode().strip(" #")
    return found


def said_in_file(key: str) -> str:
    "What stands behind a key in the file that `init` writes."
    from scrapeopt.storage.settings import TEMPLATE
    found = re.findall(rf"^(?:# *)?{key} = .*?# (.+)$", TEMPLATE, re.M)
    return found[-1] if found else ""


def is_model(kind: Any) -> bool: return isinstance(kind, type) and issubclass(kind, BaseModel)


def choices(kind: Any) -> list[str]:
    "The words that a setting can be, as they stand in the file."
    if get_origin(kind) is Literal: return [json.dumps(value) for value in get_args(kind)]
    if get_origin(kind) in (Union, UnionType): return [c for part in get_args(kind) for c in choices(part)]
    return choices(get_args(kind)[0]) if get_origin(kind) is Annotated else []


def bounds(metadata: Any) -> Iterator[tuple[str, Any]]:
    "The limits that pydantic holds a number to, also those inside another's."
    for one in metadata:
        yield from bounds(getattr(one, "metadata", ()))
        for name in ("gt", "ge", "lt", "le", "pattern"):
            if getattr(one, name, None) is not None: yield name, getattr(one, name)


def parts(kind: Any) -> Iterator[tuple[Any, list[Any]]]:
    "The types that a setting can have, each with what is said of it."
    if get_origin(kind) in (Union, UnionType):
        for part in get_args(kind): yield from parts(part)
    elif get_origin(kind) is Annotated:
        inner, *said = get_args(kind)
        yield from ((k, [*more, *said]) for k, more in parts(inner))
    else: yield kind, []


WORDS_OF_PATTERN = {"^[A-Z]{3}$": "three capital letters, such as `EUR`",
                    "^([A-Z]{3})?$": 'three capital letters, such as `EUR`, or `""`'}


def values(field: Any) -> str:
    "What a setting takes: its type, its limits, its words."
    names = {str: "text", int: "a whole number", float: "a number", bool: "`true` or `false`"}
    signs = {"gt": "> {}", "ge": ">= {}", "lt": "< {}", "le": "<= {}"}
    said = [f"`{word}`" for word in choices(field.annotation)]
    def sign(name: str, limit: Any) -> str: return signs[name].format(f"{limit:,}" if isinstance(limit, int) else limit)
    for kind, more in parts(field.annotation):
        if kind in names:
            limited = dict(bounds([*more, *field.metadata]))
            if "pattern" in limited: return WORDS_OF_PATTERN[limited["pattern"]]
            limits = ", ".join(sign(*bound) for bound in limited.items())
            said.append(f"{names[kind]} {limits}".strip())
        elif get_origin(kind) is list: said.append("a list")
        elif is_model(kind) or get_origin(kind) is dict: said.append("a table")
    return " or ".join(said)


@dataclass(frozen=True)
class SettingEntry:
    "A key of scrapeopt.toml, in words."
    key: str
    takes: str
    default: str
    meaning: str
    when: str  # it would be changed


def setting_entries(model: type[BaseModel], when: dict[str, str]) -> list[SettingEntry]:
    "The keys of a model that have a sentence about when to change them; `KeyError` names one that has none."
    found = []
    for key, field in model.model_fields.items():
        if any(is_model(kind) or get_origin(kind) is dict for kind, _ in parts(field.annotation)): continue
        default = field.get_default(call_default_factory=True)
        shown = "none" if default is None else f"`{json.dumps(default)}`"
        found.append(SettingEntry(key, values(field), shown, comments(model)[key] or said_in_file(key), when[key]))
    return found


def settings_parts() -> dict[tuple[str, str], list[SettingEntry]]:
    "All keys of scrapeopt.toml in their order, under a heading and a sentence for each part of the file."
    from scrapeopt.storage.settings import CompanySettings, Settings
    from scrapeopt.storage.settings_advice import WHEN_OF_COMPANY, WHEN_OF_GROUPS, WHEN_OF_SCRAPES
    own = setting_entries(Settings, WHEN_OF_GROUPS | WHEN_OF_SCRAPES)
    each = setting_entries(CompanySettings, WHEN_OF_COMPANY)
    return {
        ("Places and groups", "Of the whole workspace. The environment variable `SCRAPEOPT_EPS_KM` wins over `eps_km` "
         "in the file, and so for every key of this part and the next."): [e for e in own if e.key in WHEN_OF_GROUPS],
        ("Scrapes and files", "Of the whole workspace, too."): [e for e in own if e.key in WHEN_OF_SCRAPES],
        ("Companies", 'In the table of a company, `[companies."Coles"]`, or in `[defaults]` for all that do not say '
         "otherwise."): each}


def settings_page() -> str:
    "All keys of scrapeopt.toml: a table of them, then a section each."
    found = settings_parts()
    rows = [(f"[`{e.key}`](#setting-{e.key})", e.default, e.meaning) for entries in found.values() for e in entries]
    lines = [*table(("key", "default", "meaning"), rows), ""]
    for (title, said), entries in found.items():
        lines += [f"## {title}", "", said, "", *(line for entry in entries for line in setting_entry(entry))]
    return "\n".join(lines)


def setting_entry(entry: SettingEntry) -> list[str]:
    "The section of a setting."
    rows = [("takes", entry.takes), ("default", entry.default), ("change it", entry.when)]
    return [f"(setting-{entry.key})=", f"### `{entry.key}`", "", entry.meaning, "",
            *(f":{name}: {text}" for name, text in rows), ""]


def public_paths() -> list[tuple[str, str]]:
    "The module and the name of whatever others may import, in the order in which a reader needs them."
    package = importlib.import_module("scrapeopt")
    short = [(f"scrapeopt.{place}" if place else "scrapeopt.backtest", name) for name, place in package._PLACES.items()]
    long = [(f"scrapeopt.{module}", name) for module, names in PUBLIC.items() for name in names.split()]
    found = dict.fromkeys(name for _, name in [*short, *long])
    where = {name: module for module, name in [*long, *short]} | {name: module for module, name in long}
    order = [*(n for n in FIRST if n in found), *(n for n in found if n not in FIRST)]
    return [(where[name], name) for name in order]


def told_in(obj: Any, module: str, name: str) -> str:
    "A link to the page that tells of an object: its notebook, or that of its folder."
    known = {str(page(path)) for path in notebooks()}
    place = str(getattr(obj, "__module__", None) or module).removeprefix("scrapeopt.").replace(".", "/")
    own = f"{module.removeprefix('scrapeopt.')}/{name}"  # a policy has a notebook of its own
    if own in known: place = own
    return f"[{place}]({place}.ipynb)" if place in known else f"[{place}]({place}/index.md)"


def api_entry(module: str, name: str) -> list[str]:
    "The section of a name: how it is imported, its signature with what each parameter is, and where it is told."
    obj = getattr(importlib.import_module(module), name)
    short = name in importlib.import_module("scrapeopt").__all__ and name != "backtest"
    lines = [f"## `{name}`", "", "```python", f"from {'scrapeopt' if short else module} import {name}", "```", ""]
    kind = "class" if isinstance(obj, type) else "function" if inspect.isfunction(obj) else ""
    if kind:
        members = ["   :members:"] if kind == "class" else []
        lines += ["```{rst}", f".. auto{kind}:: {module}.{name}", "   :no-index:", *members, "```", ""]
    elif isinstance(obj, dict): lines += [f"A table of {len(obj)}: {', '.join(f'`{key}`' for key in obj)}.", ""]
    else: lines += [f"A `{type(obj).__name__}`.", ""]
    return [*lines, f"Told in {told_in(obj, module, name)}.", ""]


def api_page() -> str:
    "What one imports, with signatures."
    return "\n".join(line for module, name in public_paths() for line in api_entry(module, name))
