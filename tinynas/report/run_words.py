"""The words of the page about a run: plain sentences from its numbers. Everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinynas import __version__
from tinynas.cost.quantities import shown
from tinynas.errors import counted
from tinynas.graph import lower
from tinynas.records import Trial
from tinynas.report.search_figures import Limit, LimitsInfo, ProgressInfo, SpacesInfo, cost_of
from tinynas.report.source import Source
from tinynas.report.words import amount, count, duration, percent, points, text, title


def run_slots(source: Source, progress: ProgressInfo, limits: LimitsInfo, spaces: SpacesInfo) -> dict[str, str]:
    """The page's texts about the run by slot, as escaped HTML."""
    return {
        "eyebrow": _eyebrow(source),
        "noun": text(source.noun),
        "headline": _headline(source),
        "lead": _lead(source),
        "kpis": _kpis(source, progress),
        "front-words": _front_words(source),
        "table-title": _table_title(source),
        "table-words": _table_words(source),
        "front-table": _front_table(source),
        "progress-words": _progress_words(source, progress),
        "limits-words": _limits_words(limits),
        "spaces-words": _spaces_words(spaces),
        "about": _about(source),
        "footer": _footer(source),
    }


def _board(source: Source) -> str:
    return str(source.budget.board or source.budget.name)


def _eyebrow(source: Source) -> str:
    state = '<span class="chip live">searching</span>' if source.running else '<span class="chip">finished</span>'
    if not source.running and (source.summary.get("interrupted") or (source.trials and not source.summary)):
        state = '<span class="chip">unfinished</span>'
    facts = [source.run.name, str(source.config.get("data", "")), _board(source), f"runtime {source.budget.runtime}"]
    return state + "".join(f"<span>{text(fact)}</span>" for fact in facts if fact)


def _best(source: Source) -> Trial | None:
    return source.scored[source.front[0]] if source.front else None


def _headline(source: Source) -> str:
    best = _best(source)
    fully = [source.promoted[i] for i in source.picked if i in source.promoted]
    if fully:
        fitting = [one for one in fully if source.budget.fits(source.budget.cost(lower(source.arch(one.id))))]
        one = max(fitting or fully, key=lambda p: p.val_accuracy)
        int8 = source.int8_accuracy(one.id)
        reached = f"{percent(int8)} in int8" if int8 is not None else percent(one.test_accuracy)
        words = f"fits {_board(source)}" if fitting else f"does not fit {_board(source)}"
        return _unbroken(f"{reached} on test {source.noun}s: {one.id}, {words}")
    if best is None:
        return text(f"Nothing trained yet for {_board(source)}")
    hope = f", {percent(best.expected_accuracy)} expected" if _expected_of(best) else ""
    return _unbroken(f"{percent(best.accuracy)} after {counted(best.epochs, 'epoch')}{hope}, fits {_board(source)}")


def _unbroken(words: str) -> str:
    # A percent sign does not begin a line.
    return text(words.replace(" %", "\N{NO-BREAK SPACE}%"))


def _expected_of(best: Trial) -> bool:
    """Whether something else is expected of ``best`` than it showed."""
    return percent(best.expected_accuracy) != percent(best.accuracy)


def _most_accurate(source: Source, best: Trial) -> str:
    # The one that showed most may have been trained longest, or been lucky.
    if all((trial.accuracy or 0.0) <= (best.accuracy or 0.0) for trial in source.scored.values()):
        return "The most accurate network of this search"
    return "The network that this search expects to be the most accurate"


def _costs_in_words(costs: Mapping[str, float | None]) -> str:
    parts = [
        f"<strong>{text(quantity.text(value))}</strong> {quantity.phrase}"
        for quantity, value in shown(costs).items()
        if quantity.phrase is not None and value is not None
    ]
    return ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def _lead(source: Source) -> str:
    best = _best(source)
    if best is None:
        return "The first pictures come with the first trained network."
    refused = sum(t.state == "infeasible" for t in source.trials)
    reached = (
        f"reaches a mean average precision of <strong>{percent(best.accuracy)}</strong> on validation images (inputs may have several "
        "labels at once: that is what accuracy means on this page) "
        if source.several
        else f"gets <strong>{percent(best.accuracy)}</strong> of the validation {source.noun}s right "
    )
    short = best.epochs < max(trial.epochs for trial in source.scored.values())
    how = "trained as far as the farthest" if short else "allowing for luck"
    hope = f" (<strong>{percent(best.expected_accuracy)}</strong> expected, {how})" if _expected_of(best) else ""
    said = (
        f"{_most_accurate(source, best)}, <code>{text(best.id)}</code>, {reached}"
        f"after {counted(best.epochs, 'epoch')} of training{hope}, with {_costs_in_words(best.costs)}. "
        f"It is one of {len(source.scored):,} that fit and were trained"
    )
    return said + (
        f"; {counted(refused, 'proposal')} did not fit and cost no training." if refused else "; nothing was trained that does not fit."
    )


def _kpis(source: Source, progress: ProgressInfo) -> str:
    cells = []
    best = _best(source)
    if best is not None:
        hope = f"; {percent(best.expected_accuracy)} expected" if _expected_of(best) else ""
        trained = f"after {counted(best.epochs, 'epoch')}{hope}"
        cells.append((percent(best.accuracy), f"validation {source.score_words} of the best network, {trained}"))
    for one in sorted(source.promoted.values(), key=lambda p: -p.val_accuracy)[:1]:
        cells.append((percent(one.test_accuracy), f"test {source.score_words} of {one.id}, float, after full training"))
        int8 = source.int8_accuracy(one.id)
        if int8 is not None:
            cells.append((percent(int8), "the same in int8, on kernels equal to the microcontroller's"))
    if source.traded:
        cells.append((f"{len(source.front)}", "network on the front" if len(source.front) == 1 else "networks on the front"))
    cells.append((f"{len(source.scored):,}", "network trained" if len(source.scored) == 1 else "networks trained"))
    volume, alone = (source.summary.get(key) for key in ("hypervolume", "baseline_hypervolume"))
    if volume and alone and source.traded:
        drawn = progress.arms[1].networks
        cells.append((f"{float(volume):.3f}", f"hypervolume; {counted(drawn, 'uniformly drawn network')} alone: {float(alone):.3f}"))
    if source.summary.get("seconds"):
        cells.append((duration(float(source.summary["seconds"])), "search time"))
    return "".join(f"<li><b>{text(value)}</b><span>{text(what)}</span></li>" for value, what in cells)


def _front_words(source: Source) -> str:
    if not source.front:
        return "Every trained network becomes a dot here."
    cheap = min((source.scored[i] for i in source.front), key=lambda t: cost_of(t, source.cost))
    best = _best(source)
    assert best is not None
    if not source.traded:
        said = (
            "Each dot is a network; up is more accurate, left is cheaper. The search was asked for the best that fits, whatever it costs: "
            f"{text(best.id)}. Blue dots are those that nothing tried beats in both"
        )
    elif len(source.front) == 1:
        said = f"Each dot is a network. One beats all others in both: {text(best.id)}"
    else:
        low, high = (amount(source.cost, cost_of(t, source.cost)) for t in (cheap, best))
        said = (
            "Each dot is a network; up is more accurate, left is cheaper. Blue dots are the front: nothing tried beats them in both. "
            f"It runs from <strong>{percent(cheap.expected_accuracy)}</strong> at {text(low)} to "
            f"<strong>{percent(best.expected_accuracy)}</strong> at {text(high)} {text(title(source.cost))}"
        )
    if source.fronts[source.cost].expected:
        said += (
            ". They were trained for different times, so accuracies are what is expected of each if it were trained as far as the "
            "farthest, allowing for luck (of two told alike the larger has more to come); what was seen is in the table"
        )
    return f"{said}. Click a dot, or walk along the front with the arrow keys."


def _table_title(source: Source) -> str:
    return "The front, most accurate first" if source.traded else "The best"


def _table_words(source: Source) -> str:
    int8 = any("int8_accuracy" in t.scores for t in source.scored.values())
    more = " and of its int8 arithmetic" if int8 else ""
    return (
        f"Accuracy on validation {source.noun}s after so many epochs of the search's short training{more}; "
        f"costs are estimates for {text(source.budget.runtime)}."
    )


def _front_table(source: Source) -> str:
    if not source.front:
        return '<p class="empty">Empty so far.</p>'
    rows = [source.scored[i] for i in source.front]
    keys = [q.name for q in shown({}, "narrow", "wide") if any(t.costs.get(q.name) is not None for t in rows)]
    int8 = any("int8_accuracy" in t.scores for t in rows)
    full = any(t.id in source.promoted for t in rows)
    expected = any(t.expected_accuracy != t.accuracy for t in rows)
    heads = ["network", *(["expected", "seen"] if expected else ["accuracy"])]
    heads += [*(["int8"] if int8 else []), *(["test, full training"] if full else []), *map(title, keys), "epochs"]
    lines = []
    for trial in rows:
        cells = [_net_button(source, trial.id)]
        cells += [percent(trial.expected_accuracy)] if expected else []
        cells.append(percent(trial.accuracy))
        cells += [percent(trial.scores.get("int8_accuracy"))] if int8 else []
        if full:
            one = source.promoted.get(trial.id)
            cells.append(percent(one.test_accuracy if one else None))
        cells += [text(amount(key, trial.costs.get(key))) for key in keys] + [f"{trial.epochs:g}"]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return table(heads, lines)


def _net_button(source: Source, net_id: str) -> str:
    tag = '<span class="tag">full</span>' if net_id in source.picked else ""
    return f'<button type="button" class="net" data-id="{text(net_id)}">{text(net_id)}</button>{tag}'


def table(heads: Sequence[str], lines: Sequence[str]) -> str:
    """An HTML table from column titles and finished rows."""
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _progress_words(source: Source, info: ProgressInfo) -> str:
    search, baseline = info.arms
    if not search.spent and not baseline.spent:
        return "The curves begin with the first result."
    said = "Uniform drawing takes networks that fit at random and trains them by the same schedule: whoever searches should do better. "
    if source.traded:
        said += (
            "Hypervolume is the share of the box between worst and best values that the front covers; the search's is without the networks "
            "of the baseline. "
        )
    if info.at is None:
        return said + "This run has only one of the two, so there is nothing to compare yet."
    unit = f"{count(info.at)} training {source.noun}s" if info.unit == "images" else f"{duration(info.at)} of training"
    by, volume = info.best_at[0] - info.best_at[1], info.volume_at[0] - info.volume_at[1]
    # Without a front the best network is all that was searched for.
    ahead = volume if source.traded else by
    verdict = "ahead" if ahead > 0 else "behind" if ahead < 0 else "level"
    volumes = f" and hypervolume {info.volume_at[0]:.3f} against {info.volume_at[1]:.3f}" if source.traded else ""
    return (
        f"{said}After {text(unit)} for each, the search had found <strong>{percent(info.best_at[0])}</strong> against "
        f"<strong>{percent(info.best_at[1])}</strong> ({points(by)}){volumes}: {verdict} in this run. The baseline is "
        f"{counted(baseline.networks, 'network')}; one run is one sample."
    )


def _limits_words(info: LimitsInfo) -> str:
    if not info.limits:
        return '<p class="words">This needs at least two trained networks.</p>'
    lines = "".join(f"<li>{_limit_words(one)}</li>" for one in info.limits)
    return (
        f'<p class="words">Read from the {info.networks:,} trained networks: the best accuracy (expected, where they were '
        "trained for different times) of those that would fit a smaller limit. Networks over a limit were not trained, so what "
        "more room would buy is a trend, not a measurement.</p>"
        f'<ul class="words">{lines}</ul>'
    )


def _limit_words(one: Limit) -> str:
    name, limit, step = text(title(one.cost)), text(amount(one.cost, one.limit)), text(amount(one.cost, one.step))
    less = f"{step} less would have cost " + (f"{100 * one.less:.1f} points." if one.less > 0 else "nothing.")
    used = f"<strong>{name}</strong> is used up to its limit of {limit}"
    if not one.binds:
        return (
            f"<strong>{name}</strong> does not hold this search back: the most accurate network uses "
            f"{text(amount(one.cost, one.best_cost))} of {limit} ({percent(one.best_cost / one.limit, 0)}). {less}"
        )
    if one.more is None:
        return f"{used}; too few networks were trained near it to price more of it. {less}"
    low, high = one.more_range or (one.more, one.more)
    between = "" if one.more_range is None else f" (80 % of resamplings: {100 * low:.1f} to {100 * high:.1f})"
    return f"{used}. By the trend below it, {step} more would buy about <strong>{100 * one.more:.1f} points</strong>{between}. {less}"


def _spaces_words(info: SpacesInfo) -> str:
    chosen = [curve for curve in info.curves if curve.chosen]
    if not chosen:
        return ""
    top = max(chosen, key=lambda curve: curve.mean_macs)
    return (
        "Before anything was trained, networks were drawn from every size of input and width, and those over the limits thrown away. Where "
        "those that are left can spend more multiplications, they learn more: such sub-spaces, the best at each size, are searched. "
        f"{len(chosen)} of {len(info.curves)} were chosen; at <strong>{top.input}, width x{top.width_mult:g}</strong> "
        f"the networks that fit have {text(amount('macs', top.mean_macs))} MACs on average."
    )


def _about(source: Source) -> str:
    env, settings, budget = source.run.env, source.settings, source.budget
    chip = f" ({budget.mcu}, {budget.core}, {budget.clock_mhz:g} MHz)" if budget.core and budget.clock_mhz else ""
    versions = "".join(f", {name} {version}" for name, version in env.get("versions", {}).items())
    facts = [
        ("budget", f"{budget.name}{chip}"),
        ("left for the network", ", ".join(f"{title(k)} {amount(k, v)}" for k, v in budget.limits.items())),
        ("space", f"{source.space.name}: {source.space.describe()}"),
        ("data", f"{source.config.get('data', '')}" + (f", {counted(len(source.labels), 'class', 'classes')}" if source.labels else "")),
        ("objectives", ", ".join(map(str, settings.get("objectives", ())))),
        ("schedule", _schedule(source)),
        ("seed", str(settings.get("seed", env.get("seed", "")))),
        ("strategy", str(settings.get("strategy", ""))),
        ("ended because", str(source.summary.get("reason", ""))),
        ("machine", f"{env.get('platform', '')}" + (f", {counted(env['cpu_count'], 'core')}" if "cpu_count" in env else "")),
        ("versions", f"tinynas {env.get('tinynas', '')}, Python {env.get('python', '')}{versions}"),
    ]
    rows = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts if value.strip(" ,"))
    told = (*source.run.env.get("notes", ()), *source.plan.get("notes", ()))
    notes = "".join(f"<li>{text(note)}</li>" for note in told)
    decided = (
        f'<details><summary>What was found and decided before the search began</summary><ul class="words">{notes}</ul></details>'
        if notes
        else ""
    )
    return (
        f'<p class="words">Choices were made on validation {source.noun}s only; test {source.noun}s are read once, after full training. '
        "A figure is estimated or measured, and says which. Accuracies in the search come from short trainings: "
        f'they rank networks and rise with full training.</p><dl class="facts about">{rows}</dl>{decided}'
    )


def _schedule(source: Source) -> str:
    rungs, images = source.plan.get("rungs"), source.plan.get("epoch_images")
    if not rungs or images is None:
        return ""
    before, last = "".join(f"{epochs}, " for epochs in rungs[:-1]), counted(rungs[-1], "epoch")
    return f"{'rungs at ' if before else ''}{before}{last} of {counted(images, source.noun) if images else f'all {source.noun}s'}"


def _footer(source: Source) -> str:
    made = f"Made by tinynas {text(__version__)} from <code>{text(str(source.run.path))}</code>."
    return f"{made} This file is complete: nothing is loaded from elsewhere."
