import type { Test } from 'tap'
import { type Database, openDatabase } from '../../src/db/database.ts'
import type { Finding } from '../../src/doctor/check.ts'
import { type ExamineOptions, examine } from '../../src/doctor/doctor.ts'
import { adminUrlVariable, queryOnce } from '../support/database.ts'
import { until } from '../support/until.ts'

/**
 * The server of all tests does not make data durable, because its databases need not survive a crash. The processes of
 * other tests count in the budget of its connections.
 */
const isExpected = ({ code }: Finding, { options }: Database) =>
  /^(setting-(fsync|full-page-writes)|connection-budget)$/.test(code) &&
  new URL(options.url).host === new URL(process.env[adminUrlVariable] as string).host

/** The roles of the running test. Roles of other tests may have settings, because roles belong to the whole server. */
export const ownRoles = new Set<unknown>()

const isOfOtherTest = ({ code, details }: Finding) =>
  code.startsWith('setting-') && details?.role !== undefined && !ownRoles.has(details.role)

/** Examines a database, and returns the findings. */
export async function findings(database: Database, options?: ExamineOptions): Promise<Finding[]> {
  return (await examine(database, options)).findings.filter(
    (finding) => !isExpected(finding, database) && !isOfOtherTest(finding),
  )
}

/** Opens a database as a process of its own would, and examines it. */
export async function findingsAt(
  { url, listenUrl = url }: { url: string; listenUrl?: string },
  options?: ExamineOptions,
): Promise<Finding[]> {
  const database = openDatabase({ url, listenUrl, poolSize: 2 })
  try {
    return await findings(database, options)
  } finally {
    await database.close()
  }
}

export const codesOf = (found: readonly Finding[]): string[] => found.map(({ code }) => code)

/** A condition that a finding reports. */
export interface Condition {
  /** Statements that make the condition so. */
  make: string
  code: string
  severity?: Finding['severity']
  /** Parts of the message and of the action. */
  message?: RegExp
  action: string | RegExp
  /** Statements that end the condition. Default: the action of the finding. */
  end?: string
  options?: ExamineOptions
}

/**
 * Makes a condition so, checks that only its finding is reported, does what the finding says, and checks that it helps.
 *
 * @param refresh a statement to run before each examination
 */
export async function checkCondition(t: Test, url: string, condition: Condition, refresh = 'select 1'): Promise<void> {
  const { make, code, severity = 'error', message = /./, action, end, options } = condition
  await apply(url, make)
  await queryOnce(url, refresh)
  const found = await findingsAt({ url }, options)
  t.match(found, [{ code, severity, message, action }], code)
  t.same(codesOf(found), [code], `nothing else is found than ${code}`)
  await apply(url, end ?? found[0]?.action ?? '')
  await queryOnce(url, refresh)
  t.same(codesOf(await findingsAt({ url }, options)), [], `${code} is gone after: ${end ?? found[0]?.action}`)
}

const loadTime = async (url: string) => (await queryOnce(url, 'select pg_conf_load_time()::text as at'))[0].at

/** Runs statements in one transaction, except for those that change the configuration of the server. */
async function apply(url: string, statements: string): Promise<void> {
  if (!statements.startsWith('alter system')) return void (await queryOnce(url, statements))
  const before = await loadTime(url)
  for (const statement of statements.split('; ')) await queryOnce(url, statement)
  // The server reads its configuration a moment later.
  await until(async () => (await loadTime(url)) !== before)
}
