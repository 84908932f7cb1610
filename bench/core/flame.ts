import { fileURLToPath } from 'node:url'
import { escapeXml } from './chart.ts'
import type { Profile } from './inspector.ts'

/** A function as called by one caller, and the functions that it calls. */
export interface Frame {
  /** Function and file. For work of V8 itself, a name in parentheses, such as `(garbage collector)`. */
  name: string
  /** Microseconds in the function itself. */
  self: number
  /** Microseconds in the function and in the functions that it calls. */
  total: number
  called: Frame[]
}

/** Turns a profile into a tree of frames, without idle time. */
export function toFrames(profile: Profile, root: string): Frame {
  const selves = new Map<number, number>()
  for (const [index, id] of profile.samples.entries()) {
    selves.set(id, (selves.get(id) ?? 0) + (profile.timeDeltas[index] ?? 0))
  }
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]))
  const frameOf = (ids: readonly number[], name: string): Frame => {
    const self = ids.reduce((sum, id) => sum + (selves.get(id) ?? 0), 0)
    // V8 lists a function several times if it was compiled in several ways.
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

/** Returns the functions with the largest `self` time, each with its share of the total time (0 to 1). */
export function topFunctions(root: Frame, count: number): { name: string; share: number }[] {
  const selves = new Map<string, number>()
  const add = ({ name, self, called }: Frame) => {
    selves.set(name, (selves.get(name) ?? 0) + self)
    for (const one of called) add(one)
  }
  add(root)
  return [...selves]
    .sort(([, a], [, b]) => b - a)
    .slice(0, count)
    .map(([name, self]) => ({ name, share: self / root.total }))
}

// In pixels.
const width = 1200
const rowHeight = 16
/** Frames that are narrower than this are not drawn. */
const minFrameWidth = 0.6
const maxDepth = 48

/** Draws a flame graph as an SVG, callers on top. A tooltip shows each frame's name and share. */
export function drawFlames(root: Frame, title: string): string {
  const boxes: string[] = []
  let deepest = 0
  const draw = (frame: Frame, x: number, depth: number) => {
    const frameWidth = (frame.total / root.total) * width
    if (frameWidth < minFrameWidth || depth >= maxDepth) return
    deepest = Math.max(deepest, depth)
    const y = 32 + depth * rowHeight
    const letters = Math.floor((frameWidth - 6) / 6.2)
    const label = letters > 2 ? frame.name.slice(0, letters) : ''
    const share = `${((frame.total / root.total) * 100).toFixed(1)} %`
    boxes.push(
      `<g><title>${escapeXml(frame.name)}: ${share}</title><rect x="${x.toFixed(1)}" y="${y}" width="${Math.max(frameWidth - 0.5, 0.3).toFixed(1)}" height="${rowHeight - 1}" fill="${colorOf(frame.name)}"/>${label && `<text x="${(x + 3).toFixed(1)}" y="${y + 11}">${escapeXml(label)}</text>`}</g>`,
    )
    let left = x
    for (const one of frame.called.toSorted((a, b) => b.total - a.total)) {
      draw(one, left, depth + 1)
      left += (one.total / root.total) * width
    }
  }
  draw(root, 0, 0)
  const height = 40 + (deepest + 1) * rowHeight
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="ui-monospace, monospace" font-size="10" fill="#0f172a">
<title>${escapeXml(title)}</title>
<rect width="100%" height="100%" fill="#f8fafc"/>
<text x="6" y="20" font-family="system-ui, sans-serif" font-size="13" font-weight="600">${escapeXml(title)}</text>
${boxes.join('\n')}
</svg>
`
}

/** Returns the color of a function: V8, Node.js, this project and packages have different colors. */
function colorOf(name: string): string {
  if (name.startsWith('(') && !name.includes(' ')) return '#cbd5e1'
  if (name.includes(' node:')) return '#bae6fd'
  return / (src|worker|bench)\//.test(name) ? '#93c5fd' : '#fde68a'
}
