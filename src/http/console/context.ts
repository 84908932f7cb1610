import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { sql, type Transaction } from 'kysely'
import { setActor } from '../../db/actor.ts'
import { setLockTimeout } from '../../db/locks.ts'
import { errorCode, sqlstate } from '../../db/sqlstate.ts'
import type { Tables } from '../../db/tables.ts'
import { ProblemError } from '../../errors.ts'
import { roles } from '../../migrate/privileges.ts'
import { withCauses } from '../../primitives/thrown.ts'
import { pageHeaders } from '../protocol/security-headers.ts'
import type { Service } from '../service.ts'
import { cookieOf, setCookie } from './cookies.ts'
import { type NavigationItem, type Notice, type PageContent, renderPage } from './layout.ts'

/** How long an action waits for a lock. */
const lockTimeoutMs = 5_000
const noticeCookie = 'accepted_notice'
const noticeSeconds = 30
const maxNoticeLength = 500

const headers = {
  ...pageHeaders("script-src 'self'", "style-src 'self'", "connect-src 'self'", "form-action 'self'"),
  'content-type': 'text/html; charset=utf-8',
  'cache-control': 'no-store',
  // With no-referrer, forms would have the origin `null`.
  'referrer-policy': 'same-origin',
}

/** The rights of `accepted_operator`, if the role of the API may take them. Otherwise, it must have them itself. */
const becomeOperator = sql`case when pg_has_role(session_user, to_regrole(${roles.operator})::oid,
    case when current_setting('server_version_num')::integer < 160000 then 'member' else 'set' end)
  then set_config('role', ${roles.operator}, true) end`

/** The values of a form that was sent. */
export type Form = Readonly<Record<string, string>>

type ActionRequest = FastifyRequest<{ Params: Record<string, string>; Body: Form }>

/** What an action has done. */
export interface Done {
  /** A sentence that the next page shows. */
  notice: string
  /** The next page, below the console. Default: the page that the form was on. */
  to?: string
}

/** What the pages of the console share. */
export class ConsoleContext {
  readonly service: Service
  /** The path of the console, as browsers see it. */
  readonly base: string
  readonly #navigation: readonly NavigationItem[]

  constructor(service: Service, path: string, navigation: readonly NavigationItem[]) {
    this.service = service
    this.base = service.publicPath + service.prefix + path
    this.#navigation = navigation
  }

  /** Runs queries in a transaction that cannot write, with the rights of an operator. */
  read<Result>(work: (trx: Transaction<Tables>) => Promise<Result>): Promise<Result> {
    return this.service.database.kysely.transaction().execute(async (trx) => {
      await sql`select set_config('transaction_read_only', 'on', true), set_config('jit', 'off', true),
        ${becomeOperator}`.execute(trx)
      return await explainMissingRole(work(trx))
    })
  }

  /**
   * Runs a transaction with the rights of an operator. `accepted.audit` records the principal and the key of the request.
   *
   * @throws Refusal with the text of the function that refuses the action
   */
  async write<Result>(request: FastifyRequest, work: (trx: Transaction<Tables>) => Promise<Result>): Promise<Result> {
    try {
      return await this.service.database.kysely.transaction().execute(async (trx) => {
        await sql`select ${setLockTimeout(lockTimeoutMs)}, ${setActor(request)}, ${becomeOperator}`.execute(trx)
        return await explainMissingRole(work(trx))
      })
    } catch (error) {
      throw refusalOf(error) ?? error
    }
  }

  /**
   * Adds a form's route. It changes something in a transaction, and then leads to a page that says what was done, or why
   * the database has refused it.
   */
  action(
    app: FastifyInstance,
    path: string,
    act: (trx: Transaction<Tables>, request: ActionRequest) => Promise<Done | string>,
  ): void {
    app.post<{ Params: Record<string, string>; Body: Form }>(path, async (request, reply) => {
      const back = this.pathFrom(request.body?.back)
      try {
        const done = await this.write(request, (trx) => act(trx, request))
        const { notice, to } = typeof done === 'string' ? { notice: done, to: undefined } : done
        return this.redirect(reply, to === undefined ? back : this.base + to, { isError: false, text: notice })
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
        return this.redirect(reply, back, { isError: true, text: error.message })
      }
    })
  }

  /** Answers with a page. */
  send(reply: FastifyReply, content: PageContent, status = 200): FastifyReply {
    const { request } = reply
    const notice = this.#takeNotice(request, reply)
    const page = renderPage(content, {
      ...{ base: this.base, navigation: request.principal === undefined ? [] : this.#navigation, notice },
      path: request.routeOptions.url?.slice((this.service.prefix + this.service.paths.console).length) || '/',
      user: this.service.usesKeys && request.keyId !== undefined ? request.principal : undefined,
    })
    return reply.code(status).headers(headers).send(page)
  }

  /** Leads to another page, which shows the notice once. */
  redirect(reply: FastifyReply, path: string, notice?: Notice): FastifyReply {
    if (notice) {
      const text = notice.text.slice(0, maxNoticeLength)
      this.setCookie(reply, noticeCookie, encodeURIComponent(`${notice.isError ? '!' : '.'}${text}`), noticeSeconds)
    }
    return reply.code(303).headers({ location: path, 'cache-control': 'no-store' }).send()
  }

  setCookie(reply: FastifyReply, name: string, value: string, maxAgeSeconds: number): void {
    const isSecure = this.service.siteOf(reply.request).url.startsWith('https:')
    setCookie(reply, name, value, { path: this.base, isSecure, maxAgeSeconds })
  }

  #takeNotice(request: FastifyRequest, reply: FastifyReply): Notice | undefined {
    const value = cookieOf(request, noticeCookie)
    if (!value) return undefined
    this.setCookie(reply, noticeCookie, '', 0)
    try {
      const text = decodeURIComponent(value)
      return { isError: text.startsWith('!'), text: text.slice(1) }
    } catch {
      return undefined
    }
  }

  /** Returns the path that a form names if it is one of the console, otherwise that of the first page. */
  pathFrom(given: string | undefined): string {
    const url = given?.startsWith('/') ? URL.parse(`http://console${given}`) : null
    const isOurs = url?.pathname === this.base || url?.pathname.startsWith(`${this.base}/`)
    return url && isOurs ? url.pathname + url.search : this.base
  }
}

/** An action that the database has refused, or that does not fit the form. The page says why. */
export class Refusal extends Error {
  override name = 'Refusal'
}

const refusedCodes: readonly string[] = [
  ...[sqlstate.noDataFound, sqlstate.objectNotInPrerequisiteState, sqlstate.undefinedObject],
  ...[sqlstate.invalidParameterValue, sqlstate.invalidTextRepresentation, sqlstate.numericValueOutOfRange],
  ...[sqlstate.invalidDatetimeFormat, sqlstate.datetimeFieldOverflow],
  ...[sqlstate.uniqueViolation, sqlstate.configurationLimitExceeded],
]

function refusalOf(error: unknown): Refusal | undefined {
  const code = errorCode(error)
  if (code === sqlstate.lockNotAvailable)
    return new Refusal('Another transaction works on this now. Try again in a moment.')
  if (code === undefined || !refusedCodes.includes(code)) return undefined
  const message = [...withCauses(error)].at(-1)?.message ?? 'The database refused it'
  return new Refusal(`${message.charAt(0).toUpperCase()}${message.slice(1)}.`)
}

/** Says what to do when the role of the API has not got the rights of an operator. */
async function explainMissingRole<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work
  } catch (cause) {
    if (errorCode(cause) !== sqlstate.insufficientPrivilege) throw cause
    throw new ProblemError(
      'forbidden',
      `The role of the API in Postgres lacks the rights of an operator. Let a DBA run: grant ${roles.operator} to <the role in DATABASE_URL>.`,
      { cause },
    )
  }
}
