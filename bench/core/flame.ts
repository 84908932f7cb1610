import { fileURLToPath } from 'node:url'
import { escaped } from './chart.ts'
import type { Profile } from './inspector.ts'

/** A function as it is called from another, with all that it calls. */
export interface Frame {
  /** Its name and file; that of what V8 does itself is in parentheses. */
  name: string
  /** In microseconds, by itself and with what it calls. */
  self: number
  total: number
  called: Frame[]
}

/** Where a process has spent its time, without the time in which it had nothing to do. */
export function framesOf(profile: Profile, root: string): Frame {
  const selves = new Map<number, number>()
  for (const [index, id] of profile.samples.entries()) {
    selves.set(id, (selves.get(id) ?? 0) + (profile.timeDeltas[index] ?? 0))
  }
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]))
  const frameOf = (ids: readonly number[], name: string): Frame => {
    const self = ids.reduce((sum, id) => sum + (selves.get(id) ?? 0), 0)
    // The same function may be there several times, by how it was compiled.
    const calls = Map.groupBy(
      ids.flatMap((id) => nodes.get(id)?.children ?? []),
      (id) => nameOf(nodes.get(id)?.callFrame, root),
    )
    const called = [...calls].filter(([name]) => name !== '(idle)').map(([name, ids]) => frameOf(ids, name))
    return { name, self, total: called.reduce((sum, { total }) => sum + total, self), called }
  }
  return frameOf([profile.nodes[0]?.id as number], 'all')
}

function nameOf(frame: Profile['nodes'][number]['callFrame'] | undefined, root: string): string {
  const { functionName = '', url = '', lineNumber = 0 } = frame ?? {}
  if (!url) return functionName
  const path = url.startsWith('file:')
    ? fileURLToPath(url)
        .replace(`${root}/`, '')
        .replace(/^.*node_modules\//, '')
    : url
  return `${functionName || '(anonymous)'} ${path}:${lineNumber + 1}`
}

/** By themselves, those that took most; each by its part of the whole. */
export function widest(root: Frame, count: number): { name: string; part: number }[] {
  const selves = new Map<string, number>()
  const add = ({ name, self, called }: Frame) => {
    selves.set(name, (selves.get(name) ?? 0) + self)
    for (const one of called) add(one)
  }
  add(root)
  return [...selves]
    .sort(([, a], [, b]) => b - a)
    .slice(0, count)
    .map(([name, self]) => ({ name, part: self / root.total }))
}

const width = 1200
const rowHeight = 16
/** Narrower ones are left out. */
const least = 0.6
const mostRows = 48

/** Draws a flame graph (icicle: callers above what they call) as an SVG; a title tells the name and the part. */
export function drawFlames(root: Frame, title: string): string {
  const boxes: string[] = []
  let deepest = 0
  const draw = (frame: Frame, x: number, depth: number) => {
    const wide = (frame.total / root.total) * width
    if (wide < least || depth >= mostRows) return
    deepest = Math.max(deepest, depth)
    const y = 32 + depth * rowHeight
    const letters = Math.floor((wide - 6) / 6.2)
    const label = letters > 2 ? frame.name.slice(0, letters) : ''
    const part = `${((frame.total / root.total) * 100).toFixed(1)} %`
    boxes.push(
      `<g><title>${escaped(frame.name)}: ${part}</title><rect x="${x.toFixed(1)}" y="${y}" width="${Math.max(wide - 0.5, 0.3).toFixed(1)}" height="${rowHeight - 1}" fill="${colorOf(frame.name)}"/>${label && `<text x="${(x + 3).toFixed(1)}" y="${y + 11}">${escaped(label)}</text>`}</g>`,
    )
    let from = x
    for (const one of frame.called.toSorted((a, b) => b.total - a.total)) {
      draw(one, from, depth + 1)
      from += (one.total / root.total) * width
    }
  }
  draw(root, 0, 0)
  const height = 40 + (deepest + 1) * rowHeight
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="ui-monospace, monospace" font-size="10" fill="#0f172a">
<title>${escaped(title)}</title>
<rect width="100%" height="100%" fill="#f8fafc"/>
<text x="6" y="20" font-family="system-ui, sans-serif" font-size="13" font-weight="600">${escaped(title)}</text>
${boxes.join('\n')}
</svg>
`
}

/** Ours, packages, Node.js, and V8 itself. */
function colorOf(name: string): string {
  if (name.startsWith('(') && !name.includes(' ')) return '#cbd5e1'
  if (name.includes(' node:')) return '#bae6fd'
  return / (src|worker|bench)\//.test(name) ? '#93c5fd' : '#fde68a'
}
