import { escapeHtml } from '../protocol/html.ts'

/** Markup that needs no escaping. Made only by {@link html}. */
export class Html {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** What a template may contain. Text is escaped; `undefined`, `null` and `false` leave nothing. */
export type Content = Html | string | number | bigint | false | null | undefined | readonly Content[]

/**
 * The tag of templates for markup. Everything that is put in is escaped, unless it is markup itself. Values of attributes
 * must stand between double quotes.
 */
export function html(strings: TemplateStringsArray, ...values: readonly Content[]): Html {
  let text = strings[0] as string
  for (const [index, value] of values.entries()) text += toText(value) + strings[index + 1]
  return new Html(text)
}

function toText(content: Content): string {
  if (content instanceof Html) return content.text
  if (content === undefined || content === null || content === false) return ''
  if (typeof content === 'object') return content.map(toText).join('')
  return escapeHtml(String(content))
}
