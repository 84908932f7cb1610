/**
 * A position in the stream of all changes of jobs: a snapshot of Postgres, as the text of a `pg_snapshot`, for example
 * `100:104:100,102`. A reader at this position has seen the changes of all transactions that the snapshot contains: of
 * those below 100, of 101 and of 103. So no clock, and no other role's open transaction, decides what a reader sees.
 *
 * Source: PostgreSQL manual, "Transaction ID and Snapshot Information Functions".
 */
export type ChangePosition = string

interface Snapshot {
  /** All transactions below this id have ended. */
  xmin: bigint
  /** No transaction has this id or a higher id yet. */
  xmax: bigint
  inProgress: bigint[]
}

const positionPattern = /^[1-9]\d{0,18}:[1-9]\d{0,18}:(\d{1,19}(,\d{1,19})*)?$/

function parse(position: ChangePosition): Snapshot {
  const [xmin = '', xmax = '', inProgress = ''] = position.split(':')
  return {
    xmin: BigInt(xmin),
    xmax: BigInt(xmax),
    inProgress: inProgress === '' ? [] : inProgress.split(',').map(BigInt),
  }
}

/** Returns whether Postgres accepts the text as a `pg_snapshot`. */
export function isChangePosition(text: string): boolean {
  if (!positionPattern.test(text)) return false
  const { xmin, xmax, inProgress } = parse(text)
  const isAscending = inProgress.every(
    (id, index) => id >= xmin && (index === 0 || id > (inProgress[index - 1] as bigint)),
  )
  return xmin <= xmax && isAscending && inProgress.every((id) => id < xmax)
}

/** Returns whether a reader at `later` has seen every change that a reader at `earlier` has seen. */
export function contains(later: ChangePosition, earlier: ChangePosition): boolean {
  const [one, other] = [parse(later), parse(earlier)]
  if (one.xmax < other.xmax) return false
  const unseen = new Set(other.inProgress)
  return one.inProgress.every((id) => id >= other.xmax || unseen.has(id))
}

/** Returns a position at which a reader has seen only what readers at both positions have seen. */
export function earlier(
  one: ChangePosition | undefined,
  other: ChangePosition | undefined,
): ChangePosition | undefined {
  if (one === undefined || other === undefined) return one ?? other
  if (contains(one, other)) return other
  if (contains(other, one)) return one
  const { xmin } = [parse(one), parse(other)].reduce((a, b) => (a.xmin <= b.xmin ? a : b))
  return `${xmin}:${xmin}:`
}

/** A position with more transactions in progress is shortened. */
const maxListed = 8

/** Shortens a position for clients. A reader at the result sees some changes again, but misses none. */
export function shorten(position: ChangePosition): ChangePosition {
  const { xmin, inProgress } = parse(position)
  return inProgress.length <= maxListed ? position : `${xmin}:${xmin}:`
}
