import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Site } from '../../jobs/site.ts'

/**
 * For answers that are no pages. A browser that is made to show one runs, loads and embeds nothing. The page of another
 * origin may still read the answer if CORS allows it.
 */
export const dataHeaders = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
} as const

/**
 * Makes the headers of a page: those of Helmet 8, but without Strict-Transport-Security, which depends on the request.
 *
 * @param policy the directives of the Content-Security-Policy that allow what the page loads, and where its forms lead
 */
export const pageHeaders = (...policy: string[]) => ({
  ...dataHeaders,
  'content-security-policy': [
    "default-src 'none'",
    ...policy,
    "base-uri 'none'",
    ...(policy.some((directive) => directive.startsWith('form-action ')) ? [] : ["form-action 'none'"]),
    "frame-ancestors 'none'",
  ].join('; '),
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'origin-agent-cluster': '?1',
  'x-dns-prefetch-control': 'off',
  'x-download-options': 'noopen',
  // For browsers that do not know frame-ancestors.
  'x-frame-options': 'DENY',
  'x-permitted-cross-domain-policies': 'none',
  'x-xss-protection': '0',
})

/** Seconds for which a browser calls the host over https only. Other names below the host are not affected. */
const maxHttpsSeconds = 365 * 24 * 60 * 60

/** Adds the headers of {@link dataHeaders} to all answers of a scope. A route can replace them. */
export function sendSecurityHeaders(scope: FastifyInstance, siteOf: (request: FastifyRequest) => Site): void {
  const overHttps = { ...dataHeaders, 'strict-transport-security': `max-age=${maxHttpsSeconds}` }
  scope.addHook('onRequest', (request, reply, done) => {
    reply.headers(siteOf(request).url.startsWith('https:') ? overHttps : dataHeaders)
    done()
  })
}
