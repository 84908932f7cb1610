import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'

/** The checkout. */
export const root = join(import.meta.dirname, '../..')

/**
 * What a code block of the documentation is for; it stands after the language on the fence.
 *
 * | marker | the test |
 * |---|---|
 * | `file=<path>` | writes the file to a project; TypeScript is type-checked |
 * | `check` | type-checks the block as a module of its own |
 * | `run` | runs the commands, and compares their output with the one shown |
 * | `start` | starts a program, and waits for the output shown or until the program is ready |
 * | `restart` | stops the programs of the page as Ctrl-C does, and starts one |
 * | `output` | waits until the program that was started last has printed this |
 * | `illustration` | does nothing |
 */
const markersOf: Readonly<Record<string, readonly string[]>> = {
  ts: ['file', 'check', 'illustration'],
  js: ['file', 'illustration'],
  sql: ['file', 'illustration'],
  sh: ['run', 'start', 'restart', 'illustration'],
  console: ['run', 'start', 'restart', 'output', 'illustration'],
}

/** Languages in which nothing could run. */
const passiveLanguages: readonly string[] = ['http', 'json', 'mermaid', 'text', 'yaml']

/** A fenced code block. */
export interface Block {
  /** The page and the line of the opening fence. */
  place: string
  language: string
  marker: string
  /** Of `file=<path>`. */
  file: string | undefined
  text: string
}

/** A Markdown file. */
export interface Page {
  /** Path from the root of the checkout. */
  name: string
  text: string
  blocks: readonly Block[]
}

/** README.md and the files in docs. */
export function readPages(): Page[] {
  const docs = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'))
  return ['README.md', ...docs.sort().map((name) => `docs/${name}`)].map((name) =>
    parsePage(name, readFileSync(join(root, name), 'utf8')),
  )
}

/** Finds the code blocks of a page. */
export function parsePage(name: string, text: string): Page {
  const blocks: Block[] = []
  let open: (Omit<Block, 'text'> & { lines: string[]; fence: string }) | undefined
  for (const [index, line] of text.split('\n').entries()) {
    const [, fence = '', info = ''] = line.match(/^ {0,3}(`{3,}|~{3,})(.*)$/) ?? []
    if (!open) {
      if (!fence) continue
      const [language = '', word = ''] = info.trim().split(/\s+/)
      const [marker = '', file] = word.split('=')
      open = { place: `${name}:${index + 1}`, language, marker, file, fence, lines: [] }
    } else if (fence.startsWith(open.fence) && info.trim() === '') {
      const { lines, fence: _, ...block } = open
      blocks.push({ ...block, text: lines.map((one) => `${one}\n`).join('') })
      open = undefined
    } else {
      open.lines.push(line)
    }
  }
  if (open) throw new Error(`${open.place}: the code block is not closed`)
  return { name, text, blocks }
}

/** What is wrong with the opening fence of a block. */
export function findViolation({ language, marker, file }: Block): string | undefined {
  if (passiveLanguages.includes(language)) return undefined
  const allowed = markersOf[language]
  if (!allowed) {
    const known = [...Object.keys(markersOf), ...passiveLanguages].join(', ')
    return `the language must be one of ${known}, not '${language}'`
  }
  if (!allowed.includes(marker)) return `the language '${language}' must be followed by one of: ${allowed.join(', ')}`
  if ((marker === 'file') !== Boolean(file)) return 'a file is named as in file=examples/words/operations.ts'
  return undefined
}

/** A link of a page to a file or a heading in this repository. */
export interface Link {
  page: string
  target: string
  /** Path from the root of the checkout; the page itself for a bare `#heading`. */
  file: string
  anchor: string | undefined
}

const withoutCode = (text: string) => text.replace(/^ {0,3}```[\s\S]*?^ {0,3}```/gm, '').replace(/`[^`\n]*`/g, '')

/** The relative links of a page. */
export function linksOf({ name, text }: Page): Link[] {
  return [...withoutCode(text).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target = '']) => {
    if (/^[a-z]+:/.test(target)) return []
    const [path = '', anchor] = target.split('#')
    const file = path === '' ? name : relative(root, join(root, name, '..', path))
    return [{ page: name, target, file, anchor }]
  })
}

/** The anchors of a Markdown text, made from its headings as GitHub makes them. */
export function anchorsOf(text: string): string[] {
  const headings = [...text.replace(/^ {0,3}```[\s\S]*?^ {0,3}```/gm, '').matchAll(/^#{1,6} +(.+)$/gm)]
  return headings.map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replace(/\s/g, '-'),
  )
}
