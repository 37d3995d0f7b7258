// Cards of a run with several regions: one each, with its label and its classes.

const $ = (id) => document.getElementById(id);

// parts: functions of the page: { element, answerRow, fillAnswer, percent, color }
export function showRegions(regions, parts) {
  const list = $("regions"), several = regions.length > 1;
  document.body.classList.toggle("several", several);
  list.hidden = !several;
  if (!several) return;
  while (list.children.length > regions.length) list.lastChild.remove();
  while (list.children.length < regions.length) list.append(card(parts));
  regions.forEach((region, place) => fill(list.children[place], region, parts));
}

function card({ element }) {
  const made = element("section", "card region"), head = element("h2"), shown = element("p", "shown");
  const label = element("bdi", "label");
  label.setAttribute("aria-live", "polite");
  shown.append(label, element("span", "value"));
  made.append(head, shown, element("ol", "list"));
  return made;
}

function fill(made, region, { answerRow, fillAnswer, percent, color }) {
  const [head, shown, list] = made.children, [label, value] = shown.children;
  if (head.textContent !== region.region) head.textContent = region.region;
  if (label.textContent !== region.label) label.textContent = region.label;
  label.classList.toggle("unknown", !region.known);
  value.textContent = percent(region.confidence);
  made.style.borderLeftColor = color(region.label, region.known);
  const raw = new Map(region.raw_top.map((score) => [score.label, score.confidence])), top = region.top.slice(0, 3);
  while (list.children.length > top.length) list.lastChild.remove();
  while (list.children.length < top.length) list.append(answerRow());
  top.forEach((score, place) => fillAnswer(list.children[place], score, raw.get(score.label)));
}
