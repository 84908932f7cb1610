/** What a handler of a graph does with a job. */
export type Doing = 'succeed' | 'fail' | 'fail once' | 'fail unless retried' | 'JobFailed' | 'RetryAfter' | 'time out'

/** What `settle` and `abandon` write: one row per effect. */
export interface Outcome {
  job_id: string
  /** `settled`, or the status that `abandon` got. */
  kind: string
  /** The transaction. */
  xid: string
}

interface Counts {
  total: number
  succeeded: number
  failed: number
  canceled: number
}

/** What the test knows of a job. */
export interface Known {
  does: Doing
  /** Whether the handler has `perform`. */
  performs: boolean
  hasAbandon: boolean
  childCount: number
  after: readonly string[]
  onFailure: 'cancel' | 'run'
}

/** What the test knows of a batch. */
export interface KnownBatch {
  childCount: number
  allowFailures: boolean
  hasOnEnd: boolean
}

interface JobRow {
  id: string
  operation: string
  status: string
  parent: string | null
  retry_of: string | null
  idempotency_key: string | null
  children: Counts | null
  waiting_for: string[] | null
  batch: ({ id: string } & Counts) | null
  cancel_requested: boolean
  message: string | null
  error: { code: string; message: string } | null
  started_at: Date | null
  ended_at: Date
  /** The transaction that has ended the job. */
  xid: string
}

// biome-ignore lint/suspicious/noExplicitAny: rows of any shape
type Query = (text: string, values?: unknown[]) => Promise<any[]>

/** What the test has done to the jobs. */
export interface Done {
  /** The jobs for which a cancel was requested. */
  canceled: ReadonlySet<string>
  /** The jobs of earlier rounds. */
  endedBefore: ReadonlySet<string>
  jobs: ReadonlyMap<string, Known>
  batches: ReadonlyMap<string, KnownBatch>
}

const emptyTables = {
  'parents that wait': 'select from accepted.parent',
  dependencies: 'select from accepted.dependency',
  'ends that are decided': 'select from accepted.ending',
  'pending rows in the queue': "select from accepted_queue.job where state <= 'active' and name like 'node.%'",
  'blocked rows in the queue': 'select from accepted_queue.job where blocked',
}

/** The error codes with which a job may fail, besides `children-failed`, by what its handler does. */
const codes: Record<Doing, readonly string[]> = {
  succeed: [],
  'fail once': [],
  RetryAfter: [],
  fail: ['handler-error'],
  'fail unless retried': ['told'],
  JobFailed: ['told'],
  'time out': ['attempt-timeout'],
}

const maxFindings = 10

/** Everything that the checks of a job need. */
interface Graphs extends Done {
  rows: Map<string, JobRow>
  outcomes: Map<string, Outcome[]>
  childrenOf: Map<string | null, JobRow[]>
}

/** Checks the jobs of a round after all of them have ended. Returns one sentence per violation. */
export async function checkGraphs(query: Query, done: Done): Promise<string[]> {
  const findings: string[] = []
  for (const [what, statement] of Object.entries(emptyTables)) {
    const rows = await query(statement)
    if (rows.length > 0) findings.push(`There are ${rows.length} ${what}`)
  }
  const rows: JobRow[] = await query('select *, xmin::text as xid from accepted.job order by id')
  const outcomes: Outcome[] = await query('select job_id, kind, xid::xid::text as xid from outcome')
  const graphs: Graphs = {
    ...done,
    rows: new Map(rows.map((row) => [row.id, row])),
    outcomes: Map.groupBy(outcomes, ({ job_id }) => job_id),
    childrenOf: Map.groupBy(rows, ({ parent }) => parent),
  }
  for (const job of rows) {
    if (done.endedBefore.has(job.id)) continue
    const problems = job.batch ? [] : job.operation === 'batch' ? checkBatch(job, graphs) : checkJob(job, graphs)
    findings.push(
      ...[...problems, ...checkParent(job, graphs)].map(
        (problem) => `${job.operation} ${job.id} (${job.status}, ${job.error?.code}: ${job.error?.message}) ${problem}`,
      ),
    )
  }
  return findings.slice(0, maxFindings)
}

const areUnsuccessful = (counts: Counts) => counts.failed + counts.canceled > 0

function checkBatch(job: JobRow, { batches, rows }: Graphs): string[] {
  const { allowFailures = false, hasOnEnd = false, childCount = 0 } = batches.get(job.id) ?? {}
  const counts = job.children as Counts
  const status = job.cancel_requested ? 'canceled' : areUnsuccessful(counts) && !allowFailures ? 'failed' : 'succeeded'
  const following = [...rows.values()].filter(({ batch }) => batch?.id === job.id)
  const told = following.map(({ batch }) => ({ ...batch, id: undefined }))
  return [
    job.status !== status && `should be ${status}`,
    counts.total < childCount && `counts ${counts.total} of ${childCount} children`,
    following.length !== Number(hasOnEnd) && `has enqueued ${following.length} jobs at its end`,
    told.some((one) => differ(one as never, counts)) && `has told other counts at its end: ${JSON.stringify(told)}`,
  ].filter((problem) => problem !== false)
}

const differ = (a: Counts, b: Counts) =>
  (['total', 'succeeded', 'failed', 'canceled'] as const).some((name) => a[name] !== b[name])

/** Checks what holds for every job: its children, and that it waits no more. */
function checkParent(job: JobRow, { childrenOf, outcomes, jobs }: Graphs): string[] {
  const children = childrenOf.get(job.id) ?? []
  if (!job.children) {
    return [
      children.length > 0 && 'has children, but no counts',
      job.waiting_for !== null && `waits for ${job.waiting_for}`,
    ].filter((problem) => problem !== false)
  }
  const retried = new Set(children.map(({ retry_of }) => retry_of))
  const counted = children.filter(({ id, status }) => status === 'succeeded' || !retried.has(id))
  const having = (status: string) => counted.filter((child) => child.status === status).length
  const counts = {
    ...{ total: counted.length, succeeded: having('succeeded') },
    ...{ failed: having('failed'), canceled: having('canceled') },
  }
  // The end of a job with abandon is decided in the commit of its last child, and commits later.
  const isDecided = jobs.get(job.id)?.hasAbandon && job.status !== 'succeeded'
  const xids = [...children.map(({ xid }) => xid), ...(outcomes.get(job.id) ?? []).map(({ xid }) => xid)]
  return [
    differ(job.children, counts) && `has ${JSON.stringify(counts)}, but shows ${JSON.stringify(job.children)}`,
    children.some(({ ended_at }) => ended_at > job.ended_at) && 'has ended before its children',
    !isDecided && !xids.includes(job.xid) && 'has not ended in the commit of a child',
  ].filter((problem) => problem !== false)
}

/** The first job of a chain of retries. */
function firstOf(job: JobRow, rows: ReadonlyMap<string, JobRow>): JobRow {
  const first = job.retry_of && rows.get(job.retry_of)
  return first ? firstOf(first, rows) : job
}

function checkJob(job: JobRow, graphs: Graphs): string[] {
  const { rows, outcomes, jobs } = graphs
  const known = jobs.get(firstOf(job, rows).id)
  if (!known) return ['is unknown to the test']
  const kinds = (outcomes.get(job.id) ?? []).map(({ kind }) => kind)
  const settledCount = kinds.filter((kind) => kind === 'settled').length
  const abandoned = (outcomes.get(job.id) ?? []).filter(({ kind }) => kind !== 'settled')
  const isDuplicate = job.status === 'succeeded' && settledCount === 0 && hasOriginal(job, graphs)
  const hasSettled = job.children !== null || (job.status === 'succeeded' && !isDuplicate)
  const isAbandoned = known.hasAbandon && job.status !== 'succeeded'
  const awaited = job.retry_of ? [] : known.after.flatMap((id) => rows.get(id) ?? [])
  const needed = known.onFailure === 'cancel' ? awaited : []
  const early = awaited.filter(({ ended_at }) => job.started_at !== null && job.started_at < ended_at)
  return [
    findWrongReason(job, known, graphs, { isDuplicate }),
    settledCount !== Number(hasSettled) && `has ${settledCount} effects of settle`,
    abandoned.length !== Number(isAbandoned) && `was abandoned ${abandoned.length} times`,
    abandoned.some(({ kind }) => kind !== job.status) && `was abandoned as ${abandoned.map(({ kind }) => kind)}`,
    abandoned.some(({ xid }) => xid !== job.xid) && 'was abandoned in another transaction',
    job.children && job.children.total < known.childCount && `counts too few of its ${known.childCount} children`,
    early.length > 0 && `has started before the end of ${early.map(({ id }) => id)}`,
    settledCount > 0 && needed.some(({ status }) => status !== 'succeeded') && 'has run, although a needed job failed',
  ].filter((problem) => typeof problem === 'string')
}

const hasOriginal = (job: JobRow, { rows, outcomes }: Graphs) =>
  [...rows.values()].some(
    ({ id, idempotency_key, status }) =>
      id !== job.id &&
      job.idempotency_key !== null &&
      idempotency_key === job.idempotency_key &&
      status === 'succeeded' &&
      outcomes.has(id),
  )

function findWrongReason(
  job: JobRow,
  known: Known,
  graphs: Graphs,
  { isDuplicate }: { isDuplicate: boolean },
): string | false {
  const { does, performs, childCount } = known
  if (job.status === 'canceled') return isCanceledRightly(job, known, graphs) ? false : 'was canceled without a reason'
  if (job.status === 'succeeded') {
    const mustFail = ['fail', 'JobFailed'].includes(does) || (does === 'time out' && performs)
    if (isDuplicate) return false
    if (mustFail || (does === 'fail unless retried' && !job.retry_of)) return 'should have failed'
    if (job.cancel_requested) return 'should have been canceled'
    return job.children && areUnsuccessful(job.children) ? 'has succeeded although children have not' : false
  }
  const { code, message } = job.error as { code: string; message: string }
  if (code === 'children-failed')
    return job.children && areUnsuccessful(job.children) ? false : 'has no failed children'
  const isCycle = childCount > 0 && /would wait for a job that waits for it/.test(message)
  return isCycle || codes[does].includes(code) ? false : `should not have failed: it should ${does}`
}

/** Whether someone has canceled the job or one of its ancestors, or a job that it needs has not succeeded. */
function isCanceledRightly(job: JobRow, { after, onFailure }: Known, graphs: Graphs): boolean {
  const { canceled, rows } = graphs
  for (let one: JobRow | undefined = job; one; one = one.parent ? rows.get(one.parent) : undefined) {
    if (canceled.has(one.id)) return true
    // A dependency cancels only a job that has not started.
    if (one.cancel_requested && /^Canceled because the job/.test(one.message ?? '')) {
      return one !== job || (onFailure === 'cancel' && after.some((id) => rows.get(id)?.status !== 'succeeded'))
    }
  }
  return false
}
