import { type Content, type Html, html } from './html.ts'

/** The status of a job, or a word like `paused`, with a color and a text. */
export const badge = (status: string): Html => html`<span class="badge" data-status="${status}">${status}</span>`

/** A part of a page with a heading. With an id, the script keeps it up to date. */
export const section = (title: string, body: Content, { id }: { id?: string } = {}): Html =>
  html`<section${id && html` id="${id}" data-live`}><h2>${title}</h2>${body}</section>`

/** Short facts: terms with their values. Facts without a value are left out. */
export const facts = (entries: readonly (readonly [term: string, value: Content])[]): Html =>
  html`<dl class="facts">${entries
    .filter(([, value]) => value !== undefined && value !== null && value !== '' && value !== false)
    .map(([term, value]) => html`<div><dt>${term}</dt><dd>${value}</dd></div>`)}</dl>`

export interface Column {
  label: string
  /** Numbers are aligned right. */
  isNumber?: boolean
}

/**
 * A table. On narrow screens, each row becomes a card; the roles keep it a table for screen readers.
 *
 * @param options.caption what the table shows, for screen readers
 * @param options.empty what to say when there are no rows
 */
export function table(
  columns: readonly (string | Column)[],
  rows: readonly (readonly Content[])[],
  { caption, empty }: { caption: string; empty: Content },
): Html {
  if (rows.length === 0) return html`<p class="empty">${empty}</p>`
  const heads = columns.map((column) => (typeof column === 'string' ? { label: column } : column))
  const number = ({ isNumber = false }: Column) => isNumber && html` class="number"`
  return html`<table role="table">
<caption class="hidden">${caption}</caption>
<thead role="rowgroup"><tr role="row">${heads.map((head) => html`<th role="columnheader" scope="col"${number(head)}>${head.label}</th>`)}</tr></thead>
<tbody role="rowgroup">${rows.map(
    (row) => html`<tr role="row">${row.map(
      (cell, index) =>
        html`<td role="cell"${number(heads[index] as Column)} data-label="${heads[index]?.label}"><div>${cell}</div></td>`,
    )}</tr>
`,
  )}</tbody>
</table>`
}

export interface Field {
  name: string
  label: string
  value?: string | undefined
  type?: 'text' | 'search' | 'number' | 'datetime-local' | 'password'
  /** The choices of a list; the first is the default. */
  choices?: readonly (string | readonly [value: string, label: string])[]
  isRequired?: boolean
  placeholder?: string
  maxLength?: number
  autocomplete?: string
}

/** An input with its label. */
export function field({ name, label, value = '', type = 'text', choices, isRequired = false, ...more }: Field): Html {
  const { placeholder, maxLength, autocomplete = 'off' } = more
  const required = isRequired && html` required`
  if (choices) {
    const options = choices.map((choice) => (typeof choice === 'string' ? [choice, choice] : choice))
    return html`<label class="field"><span>${label}</span><select name="${name}"${required}>${options.map(
      ([option = '', text]) => html`<option value="${option}"${option === value && html` selected`}>${text}</option>`,
    )}</select></label>`
  }
  return html`<label class="field"><span>${label}</span><input name="${name}" type="${type}" value="${value}" autocomplete="${autocomplete}"${required}${
    placeholder && html` placeholder="${placeholder}"`
  }${maxLength && html` maxlength="${maxLength}"`}></label>`
}

export interface ActionForm {
  /** The path that the form posts to. */
  action: string
  /** The text of the button. */
  label: string
  /** Inputs that are shown with the button. */
  fields?: readonly Field[]
  /** Values that are sent along. */
  hidden?: Readonly<Record<string, string | undefined>>
  /** The page to show afterwards. */
  back: string
  /** For what cannot be undone. */
  isDangerous?: boolean
  /** A sentence that says what happens. With it, the form is folded up, so that one click does nothing yet. */
  explanation?: string
}

/** A form with one button that changes something. It works without scripts. */
export function actionForm(form: ActionForm): Html {
  const { action, label, fields = [], hidden = {}, back, isDangerous = false, explanation } = form
  const inputs = Object.entries({ back, ...hidden }).filter(([, value]) => value !== undefined)
  const body = html`<form method="post" action="${action}" class="action">${inputs.map(
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  )}${explanation && html`<p>${explanation}</p>`}${fields.map(field)}<button type="submit"${isDangerous && html` class="danger"`}>${label}</button></form>`
  if (explanation === undefined && fields.length === 0) return body
  return html`<details class="act"><summary${isDangerous && html` class="danger"`}>${label}…</summary>${body}</details>`
}

/** Buttons side by side. */
export const actions = (forms: readonly (Html | undefined)[]): Html => html`<div class="actions">${forms}</div>`

/** Links to the pages before and after this one. */
export const pager = ({
  first,
  next,
  label = 'Older',
}: {
  first?: string | undefined
  next?: string | undefined
  label?: string
}): Html | undefined =>
  first !== undefined || next !== undefined
    ? html`<nav class="pager" aria-label="Pages">${first !== undefined && html`<a href="${first}" rel="first">Newest</a>`}${
        next !== undefined && html`<a href="${next}" rel="next">${label}</a>`
      }</nav>`
    : undefined

/** A progress bar with its number. */
export const progressBar = (percent: number | null, label: string): Html =>
  html`<span class="progress"><progress max="100"${
    percent !== null && html` value="${percent}"`
  } aria-label="${label}"></progress>${percent !== null && html`<span>${percent} %</span>`}</span>`
