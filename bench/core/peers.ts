import { format } from './format.ts'
import { medianOf, type Series } from './series.ts'

/** The columns of the table that compares Accepted with its peers. */
const peers = ['Accepted', 'pg-boss', 'graphile-worker', 'BullMQ', 'by hand'] as const
export type Peer = (typeof peers)[number]

/** A row of the table: one figure of each program that was measured. */
export interface PeerRow {
  /** With the unit, for example `jobs/s`. */
  measure: string
  /** Which figures are better. */
  better: 'more' | 'less'
  /** A text stands for a figure that does not exist, for example `never`. */
  figures: Readonly<Partial<Record<Peer, number | string>>>
}

/** Makes a row from the medians of a metric. `contenders` names the contender of each column. */
export const peerRow = (
  series: readonly Series[],
  metric: string,
  { contenders, ...row }: Omit<PeerRow, 'figures'> & { contenders: Readonly<Partial<Record<Peer, string>>> },
): PeerRow => ({
  ...row,
  figures: Object.fromEntries(
    Object.entries(contenders).map(([peer, contender]) => [peer, medianOf(series, contender, metric)]),
  ),
})

export const peerLegend =
  'What Accepted and its peers do on one machine, each tuned for the task unless the row says otherwise. In parentheses: the figure divided by that of Accepted. **Bold**: better than Accepted. "By hand" is a program that was written for nothing but this measurement, with the same rows and commits as Accepted; it shows what all the rest costs.'

/** Returns the head and the lines of the table, with links to the sections of the report. */
export function peerLines(
  scenarios: readonly { name: string; title: string; peers?: readonly PeerRow[] }[],
): string[][] {
  const lines = scenarios.flatMap(({ name, title, peers: rows = [] }) => {
    const anchor = `${name} ${title}`
      .toLowerCase()
      .replaceAll(/[^\w -]/g, '')
      .replaceAll(' ', '-')
    return rows.map(({ measure, better, figures }) => [
      `${measure} (${better} is better)`,
      ...peers.map((peer) => cellOf(figures, peer, better)),
      `[${name}](#${anchor})`,
    ])
  })
  return [['', ...peers, 'details'], ...lines]
}

function cellOf(figures: PeerRow['figures'], peer: Peer, better: PeerRow['better']): string {
  const [ours, theirs] = [figures.Accepted, figures[peer]]
  if (theirs === undefined) return ''
  if (typeof theirs === 'string') return theirs
  if (peer === 'Accepted' || typeof ours !== 'number' || ours === 0) return format(theirs)
  const text = `${format(theirs)} (${format(theirs / ours)} ×)`
  const isBetter = better === 'more' ? theirs > ours : theirs < ours
  return isBetter ? `**${text}**` : text
}
