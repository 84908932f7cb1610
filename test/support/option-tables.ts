/**
 * Describes options in Markdown tables, from their types, schemas and comments. As a program (`npm run docs:tables`),
 * writes the tables into the pages, between `<!-- table: <name> … -->` and `<!-- end -->`.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TSchema } from 'typebox'
import { problems } from '../../src/problems.ts'
import { environmentSchema } from '../../src/settings.ts'
import { findDeclaration, type Member } from './declarations.ts'

const root = join(import.meta.dirname, '../..')

/** Where the docs say more about an option, by its name. */
type Pages = Readonly<Record<string, string>>

/** Describes the members of declarations: those of a file, as `src/operation.ts Definition OptionalAccept`. */
const options = (place: string, pages: Pages = {}) => {
  const [file = '', ...names] = place.split(' ')
  const members = names.flatMap((name) => {
    const found = findDeclaration(join(root, file), name)
    if (!found || found.members.length === 0) throw new Error(`${file} has no members of ${name}`)
    return found.members
  })
  return table(
    ['Option', 'Default', 'Meaning'],
    // A member that must be undefined only tells the kinds of handlers apart.
    members.filter(({ type }) => type !== 'undefined').map((member) => describeOption(member, pages)),
  )
}

const tables: Readonly<Record<string, { page: string; describe: () => string }>> = {
  'options of an operation': {
    page: 'operations',
    describe: () =>
      options('src/operation.ts Definition OptionalAccept', {
        route: '[`enqueue`](embedding.md#enqueue)',
        accept: '[Accept](#accept)',
        abandon: '[When a job fails](failed-jobs.md#abandon)',
        idempotencyKey: '[Idempotency](idempotency.md)',
        retry: '[Retries and timeouts](retries-and-timeouts.md)',
        heartbeatSeconds: '[Worker crashes](retries-and-timeouts.md#worker-crashes)',
        fair: '[Fairness](operation-limits.md#fairness)',
        groupConcurrency: '[Limit or group?](operation-limits.md#limit-or-group)',
        limit: '[Limits of operations](operation-limits.md)',
        seal: '[Sealed members](sealing.md)',
        coalesce: '[Coalescing requests](coalescing.md)',
        oneByOne: '[Row-level security](row-security.md)',
      }),
  },
  'options of retry': { page: 'retries-and-timeouts', describe: () => options('src/operation-options.ts Retry') },
  'options of limit': { page: 'operation-limits', describe: () => options('src/operation-options.ts Limit') },
  'options of coalesce': { page: 'coalescing', describe: () => options('src/operation-options.ts Coalesce') },
  'options of a schedule': {
    page: 'schedules',
    describe: () => options('src/schedule.ts Recurrence ScheduleDefinition'),
  },
  'a handler that only settles': {
    page: 'handlers',
    describe: () => options('worker/handlers.ts SettleHandler'),
  },
  'a handler that performs': {
    page: 'handlers',
    describe: () => options('worker/handlers.ts PerformHandler'),
  },
  'an isolated handler': {
    page: 'handlers',
    describe: () => options('worker/handlers.ts IsolatedHandler', { isolate: '[Isolation](isolation.md)' }),
  },
  'options of the plugin': {
    page: 'embedding',
    describe: () =>
      options('src/http/options.ts AcceptedOptions', {
        database: '[Outside Fastify](#outside-fastify)',
        authenticate: '[Access](access.md#authentication-of-your-own)',
        allowAnonymous: '[Access](access.md#without-keys)',
        routes: '[Routes](#routes)',
        encryptionKeys: '[Sealed members](sealing.md#keys) and [Signing secrets](webhooks.md#signing-secrets)',
        rateLimit: '[Rate limit](limits.md#rate-limit)',
        corsOrigins: '[Browsers](limits.md#browsers)',
        metricsToken: '[Access to metrics](metrics.md#access)',
        openLimit: '[Open requests](limits.md#open-requests)',
      }),
  },
  'options of connect': { page: 'embedding', describe: () => options('src/connect/open.ts ConnectOptions') },
  'options of enqueue': {
    page: 'embedding',
    describe: () =>
      options('src/jobs/enqueue.ts EnqueueOptions', {
        key: '[Idempotency](idempotency.md)',
        after: '[Dependencies](dependencies.md#after)',
      }),
  },
  'options of a worker': { page: 'embedding', describe: () => options('worker/worker.ts WorkerOptions') },
  'members of the configuration': {
    page: 'configuration',
    describe: () =>
      options('src/config.ts Config', {
        operations: '[operations](operations.md) and [schedules](schedules.md)',
        routes: '[Access](access.md#your-own-routes)',
        migrations: '[Migrating](migrating.md)',
        authenticate: '[Access](access.md#authentication-of-your-own)',
      }),
  },
  'environment variables': { page: 'configuration', describe: describeEnvironment },
  'error codes of the API': { page: 'troubleshooting', describe: describeProblems },
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const [first, ...others] = [head, ...rows].map((row) => `| ${row.map(cell).join(' | ')} |\n`)
  return `${first}|${'---|'.repeat(head.length)}\n${others.join('')}`
}

const cell = (text: string) => text.replaceAll(/\s+/g, ' ').replaceAll('|', '\\|').trim()

function describeOption({ name, isOptional, type, doc }: Member, pages: Pages): string[] {
  const [sentence, initial] = doc.match(/(?:^|(?<=\s))Default: (.+?)\.(?=\s|$)/s) ?? []
  const meaning = sentence ? doc.replace(sentence, '') : doc
  const more = pages[name] ? ` See ${pages[name]}.` : ''
  const text = `${meaning.trim()}${describeChoice(type)}${more}`
  return [`\`${name}\``, initial ?? (isOptional ? 'none' : 'required'), text]
}

/** The names that types of the sources give to a choice of texts. */
const choices: Readonly<Record<string, string>> = { MissedPolicy: "'skip' | 'once'" }

/** Says which texts an option may have. Other types follow from the meaning, and are in the API reference. */
function describeChoice(type: string): string {
  const choice = choices[type] ?? type
  return /^'[^']*'( \| '[^']*')+$/.test(choice)
    ? ` Either ${choice.replace(' | ', ' or ').replaceAll(/'[^']*'/g, '`$&`')}.`
    : ''
}

const pagesOfVariables: Pages = {
  DATABASE_URL: '[PgBouncer](pgbouncer.md)',
  DATABASE_LISTEN_URL: '[PgBouncer](pgbouncer.md)',
  DATABASE_PREPARED_STATEMENTS: '[PgBouncer](pgbouncer.md)',
  POOL_SIZE: '[Connections](doctor.md#connections-notifications-and-clocks)',
  HOST: '[Hosts](#hosts)',
  HOSTS: '[Hosts](#hosts)',
  WORKER_PORT: '[Health and metrics](metrics.md)',
  GRACE_SECONDS: '[Stopping](stopping.md)',
  RATE_LIMIT: '[Limits](limits.md#rate-limit)',
  OPEN_LIMIT: '[Limits](limits.md#open-requests)',
  CORS_ORIGINS: '[Browsers](limits.md#browsers)',
  WEBHOOK_ALLOW: '[Webhooks](webhooks.md#delivery)',
  ALLOW_ANONYMOUS: '[Access](access.md#without-keys)',
  ENCRYPTION_KEYS: '[Sealed members](sealing.md#keys)',
  METRICS_TOKEN: '[Health and metrics](metrics.md#access)',
}

interface SettingSchema {
  description?: string
  default?: unknown
  examples?: unknown[]
  minimum?: number
  maximum?: number
  enum?: unknown[]
}

function describeEnvironment(): string {
  const rows = Object.entries<TSchema>(environmentSchema.properties).map(([name, schema]) => {
    const { description = '', default: initial, examples, minimum, maximum, enum: values } = schema as SettingSchema
    const [meaning = '', stated] = description.split('; default: ')
    const range = maximum === undefined ? `at least ${minimum}` : `${minimum} to ${maximum}`
    const parts = [
      meaning,
      ...(minimum === undefined ? [] : [`An integer, ${range}`]),
      ...(values === undefined ? [] : [`One of ${values.map((value) => `\`${value}\``).join(', ')}`]),
      ...(examples === undefined ? [] : [`For example \`${examples[0]}\``]),
      ...(pagesOfVariables[name] ? [`See ${pagesOfVariables[name]}`] : []),
    ]
    return [`\`${name}\``, stated ?? (initial === undefined ? 'none' : `\`${initial}\``), `${parts.join('. ')}.`]
  })
  return table(['Variable', 'Default', 'Meaning'], rows)
}

function describeProblems(): string {
  const rows = Object.entries(problems)
    .sort(([, one], [, other]) => one.status - other.status)
    .map(([code, { status, title, remedy }]) => [`\`${code}\``, String(status), title, remedy])
  return table(['Code', 'Status', 'Cause', 'Way out'], rows)
}

/** Returns the path of each page with tables, and its text with the present tables. */
export function fillTables(): { file: string; text: string; filled: string }[] {
  const names = new Set(Object.values(tables).map(({ page }) => page))
  return [...names].map((page) => {
    const file = join(root, `docs/${page}.md`)
    const text = readFileSync(file, 'utf8')
    return { file, text, filled: fill(page, text) }
  })
}

function fill(page: string, text: string): string {
  let filled = text
  for (const [name, { page: place, describe }] of Object.entries(tables)) {
    if (place !== page) continue
    const start = `<!-- table: ${name}. Generated by \`npm run docs:tables\`. -->\n`
    const from = filled.indexOf(start)
    const to = filled.indexOf('<!-- end -->', from)
    if (from === -1 || to === -1)
      throw new Error(`docs/${page}.md must contain the lines ${start.trim()} and <!-- end -->`)
    filled = `${filled.slice(0, from + start.length)}\n${describe()}\n${filled.slice(to)}`
  }
  return filled
}

if (import.meta.main) for (const { file, filled } of fillTables()) writeFileSync(file, filled)
