import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'

/** The directory of the checkout. */
export const root = join(import.meta.dirname, '../..')

/**
 * The markers of code blocks. A marker follows the language on the opening fence, and says what the tests do.
 *
 * | marker | the tests |
 * |---|---|
 * | `file=<path>` | write the block to a file; type-check it if it is TypeScript |
 * | `check` | type-check the block as a module of its own |
 * | `run` | run the commands, and compare their output with the output shown |
 * | `start` | start a program, and wait for the output shown or until the program is ready |
 * | `restart` | stop the programs of the page with Ctrl-C, then start a program like `start` |
 * | `source=<path>` | check that the block is a part of this file |
 * | `output` | wait until the program that was started last has printed the text of the block |
 * | `illustration` | do not run the block |
 *
 * Every npm script and every option that a page names has to exist, in blocks and in sentences.
 */
const markersOf: Readonly<Record<string, readonly string[]>> = {
  ts: ['file', 'check', 'source', 'illustration'],
  js: ['file', 'source', 'illustration'],
  py: ['source'],
  sql: ['file', 'source', 'illustration'],
  html: ['source'],
  sh: ['run', 'start', 'restart', 'illustration'],
  console: ['run', 'start', 'restart', 'output', 'illustration'],
}

/** Blocks in these languages are never run or checked. They need no marker. */
const passiveLanguages: readonly string[] = ['http', 'json', 'text', 'yaml']

/** A fenced code block. */
export interface Block {
  /** The page and the line of the opening fence. */
  place: string
  language: string
  marker: string
  /** The path in the marker `file=<path>` or `source=<path>`. */
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

/** Reads README.md, CONTRIBUTING.md, bench/README.md and the files in docs. */
export function readPages(): Page[] {
  const docs = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'))
  const names = [
    'README.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
    'bench/README.md',
    ...docs.sort().map((name) => `docs/${name}`),
  ]
  return names.map((name) => parsePage(name, readFileSync(join(root, name), 'utf8')))
}

/** Finds the code blocks of a page. */
export function parsePage(name: string, text: string): Page {
  const blocks: Block[] = []
  let open: (Omit<Block, 'text'> & { lines: string[]; indent: string; fence: string }) | undefined
  for (const [index, line] of text.split('\n').entries()) {
    const [, indent = '', fence = '', info = ''] = line.match(/^( {0,3})(`{3,}|~{3,})(.*)$/) ?? []
    if (!open) {
      if (!fence) continue
      const [language = '', word = ''] = info.trim().split(/\s+/)
      const [marker = '', file] = word.split('=')
      open = { place: `${name}:${index + 1}`, language, marker, file, indent, fence, lines: [] }
    } else if (fence.startsWith(open.fence) && info.trim() === '') {
      const { lines, indent: _indent, fence: _fence, ...block } = open
      blocks.push({ ...block, text: lines.map((one) => `${one}\n`).join('') })
      open = undefined
    } else {
      // A block in a list is indented as its fence is.
      open.lines.push(line.startsWith(open.indent) ? line.slice(open.indent.length) : line)
    }
  }
  if (open) throw new Error(`${open.place}: the code block is not closed`)
  return { name, text, blocks }
}

/** Returns what is wrong with the opening fence of a block, or undefined if it is valid. */
export function findViolation({ language, marker, file }: Block): string | undefined {
  if (passiveLanguages.includes(language)) return undefined
  const allowed = markersOf[language]
  if (!allowed) {
    const known = [...Object.keys(markersOf), ...passiveLanguages].join(', ')
    return `the language must be one of ${known}, not '${language}'`
  }
  if (!allowed.includes(marker)) return `the language '${language}' must be followed by one of: ${allowed.join(', ')}`
  if ((marker === 'file' || marker === 'source') !== Boolean(file))
    return 'the markers file and source need a path (file=examples/words/operations.ts), and others must have none'
  return undefined
}

/** A link to a file or a heading in this repository. */
export interface Link {
  page: string
  target: string
  /** Path from the root of the checkout. For a bare `#heading`, the path of the page. */
  file: string
  anchor: string | undefined
}

const withoutBlocks = (text: string) => text.replace(/^ {0,3}```[\s\S]*?^ {0,3}```/gm, '')
const inlineCode = /`([^`\n]*)`/g

/** Returns the code of a page: the text of its blocks, and the code within its sentences. */
export const codeOf = ({ text, blocks }: Page): string[] => [
  ...blocks.map((block) => block.text),
  ...[...withoutBlocks(text).matchAll(inlineCode)].map(([, code = '']) => code),
]

/** Returns the relative links of a page. */
export function linksOf({ name, text }: Page): Link[] {
  return [
    ...withoutBlocks(text)
      .replace(inlineCode, '')
      .matchAll(/\]\(([^)\s]+)\)/g),
  ].flatMap(([, target = '']) => {
    if (/^[a-z]+:/.test(target)) return []
    const [path = '', anchor] = target.split('#')
    const file = path === '' ? name : relative(root, join(root, name, '..', path))
    return [{ page: name, target, file, anchor }]
  })
}

/** Returns the anchors that GitHub makes from the headings of a Markdown text. */
export function anchorsOf(text: string): string[] {
  const headings = [...withoutBlocks(text).matchAll(/^#{1,6} +(.+)$/gm)]
  return headings.map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replace(/\s/g, '-'),
  )
}
