import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import type { AcceptedOptions } from '../options.ts'
import { assertOperator, sessionCookie } from './access.ts'
import { field } from './components.ts'
import type { ConsoleContext, Form } from './context.ts'
import { cookieOf } from './cookies.ts'
import { html } from './html.ts'
import { createSession, deleteSession, sessionSeconds } from './session.ts'

const maxKeyLength = 200

/** Leads to the login page, and from there back to the page that was asked for. */
export function redirectToLogin(
  context: ConsoleContext,
  { method, url }: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const next =
    method === 'GET' && !isFirstPage(context, url)
      ? `?next=${encodeURIComponent(context.service.publicPath + url)}`
      : ''
  return context.redirect(reply, `${context.base}/login${next}`)
}

const isFirstPage = ({ base, service }: ConsoleContext, url: string) =>
  [base, `${base}/`].includes(service.publicPath + url)

/** Adds the pages that start and end a session. With an `authenticate` of the app, there are no sessions. */
export function loginRoutes(app: FastifyInstance, context: ConsoleContext, options: AcceptedOptions): void {
  if (options.authenticate) return
  app.get<{ Querystring: { next?: string } }>('/login', async (request, reply) =>
    sendLogin(context, reply, { next: request.query.next }),
  )
  app.post<{ Body: Partial<Form> }>('/login', async (request, reply) => {
    const { key = '', next } = request.body ?? {}
    try {
      await startSession(context, request, reply, key.trim())
    } catch (error) {
      if (!(error instanceof ProblemError) || ![401, 403].includes(error.status)) throw error
      const text = error.status === 401 ? 'This key is unknown, has expired or was revoked.' : `${error.message}.`
      return sendLogin(context, reply, { next, error: text, status: error.status })
    }
    return context.redirect(reply, context.pathFrom(next))
  })
  app.post('/logout', async (request, reply) => {
    const token = cookieOf(request, sessionCookie)
    if (token !== undefined) await deleteSession(context.service.database.kysely, token)
    context.setCookie(reply, sessionCookie, '', 0)
    return context.redirect(reply, `${context.base}/login`, { isError: false, text: 'You have signed out.' })
  })
}

/** Checks a key as the API does, so that wrong keys count as failed authentications of the address. */
async function startSession(
  context: ConsoleContext,
  request: FastifyRequest,
  reply: FastifyReply,
  key: string,
): Promise<void> {
  // Without a header, a request of this machine may be anonymous.
  request.headers.authorization = `Bearer ${key || '-'}`
  await request.server.accepted.authenticate(request)
  assertOperator(request)
  const token = request.keyId && (await createSession(context.service.database.kysely, request.keyId))
  if (!token) throw new ProblemError('unauthenticated')
  context.setCookie(reply, sessionCookie, token, sessionSeconds)
}

interface LoginOptions {
  next?: string | undefined
  error?: string
  status?: number
}

function sendLogin(
  context: ConsoleContext,
  reply: FastifyReply,
  { next = '', error, status = 200 }: LoginOptions,
): FastifyReply {
  // Without a principal, the page has no navigation.
  Object.assign(reply.request, { principal: undefined, keyId: undefined })
  const body = html`${error !== undefined && html`<p class="notice error" role="alert">${error}</p>`}
<form method="post" action="${context.base}/login" class="login">
<input type="hidden" name="next" value="${next}">
${field({ name: 'key', label: 'API key', type: 'password', isRequired: true, maxLength: maxKeyLength, autocomplete: 'current-password' })}
<button type="submit">Sign in</button>
<p class="hint">A key with the scope operate or admin: <code>accepted keys add &lt;name&gt; --scopes operate</code></p>
</form>`
  return context.send(reply, { title: 'Sign in', body }, status)
}
