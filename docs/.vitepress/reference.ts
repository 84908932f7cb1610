/** Describes what each entry point of the package exports, from its sources. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Declaration, exportsOf } from '../../test/support/declarations.ts'

const root = join(import.meta.dirname, '../..')

/** The entry points of the package: the specifier with which it is imported, and its source file. */
function entryPoints(): { specifier: string; file: string; url: string }[] {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, string | { 'accepted-source'?: string }>
  }
  return Object.entries(exports).flatMap(([path, targets]) => {
    const source = typeof targets === 'object' ? targets['accepted-source'] : undefined
    if (!source) return []
    const name = path.slice(2)
    return [
      {
        specifier: ['accepted', name].filter(Boolean).join('/'),
        file: join(root, source),
        url: `/reference/${name || 'accepted'}`,
      },
    ]
  })
}

/** The items of the sidebar. */
export const referencePages = (): { text: string; link: string }[] =>
  entryPoints().map(({ specifier, url }) => ({ text: specifier, link: url }))

/** Returns one page for each entry point, and one that lists them. */
export function describeReference(): { url: string; text: string }[] {
  const pages = entryPoints().map((entry) => ({ ...entry, declarations: exportsOf(entry.file) }))
  const anchors = new Map(
    pages
      .toReversed()
      .flatMap(({ url, declarations }) => declarations.map(({ name }) => [name, `${url}#${name.toLowerCase()}`])),
  )
  // These types have no name outside of the package. The pages describe their members.
  anchors.set('Definition', '/operations#options')
  anchors.set('ScheduleDefinition', '/schedules')
  const list = pages.map(({ specifier, url, declarations }) => {
    const names = declarations.map(({ name }) => `[\`${name}\`](${url}#${name.toLowerCase()})`)
    return `| [\`${specifier}\`](${url}) | ${names.join(', ')} |`
  })
  const index = `# API reference\n\nGenerated from the types and their comments.\n\n| Import | Exports |\n|---|---|\n${list.join('\n')}\n`
  return [
    { url: '/reference/index', text: index },
    ...pages.map(({ specifier, url, declarations }) => ({
      url,
      text: `# ${specifier}\n\n${declarations.map((one) => describeDeclaration(one, anchors)).join('\n')}`,
    })),
  ]
}

const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll(/\s*\n\s*/g, ' ')
const escapeHtml = (text: string) => text.replaceAll('<', '&lt;')
/** Escapes the text of a comment, but not its code. */
const prose = (text: string) =>
  text.replaceAll(/`[^`]*`|[^`]+/g, (part) => (part.startsWith('`') ? part : escapeHtml(part)))

function describeDeclaration(
  { name, kind, text, doc, members, tags }: Declaration,
  anchors: Map<string, string>,
): string {
  const used = [...new Set(text.match(/\b[A-Z]\w+\b/g) ?? [])].filter((one) => one !== name && anchors.has(one))
  const parameters = tags.filter(({ tag }) => tag === 'param').map((one) => `- \`${one.name}\`: ${prose(one.text)}`)
  const returns = tags.filter(({ tag }) => tag === 'returns').map((one) => `Returns ${prose(one.text)}.`)
  const throws = tags.filter(({ tag }) => tag === 'throws').map((one) => `Throws ${prose(one.text)}.`)
  const rows = members.map(
    (member) => `| \`${member.name}${member.isOptional ? '?' : ''}\` | ${cell(prose(member.doc))} |`,
  )
  return [
    `## ${name}`,
    `<small>${kind}</small>`,
    prose(doc),
    `\`\`\`ts\n${text}\n\`\`\``,
    ...(parameters.length > 0 ? [parameters.join('\n')] : []),
    ...returns,
    ...throws,
    ...(members.some((member) => member.doc) ? [`| Member | Meaning |\n|---|---|\n${rows.join('\n')}`] : []),
    ...(used.length > 0 ? [`Types: ${used.map((one) => `[\`${one}\`](${anchors.get(one)})`).join(', ')}`] : []),
    '',
  ].join('\n\n')
}
