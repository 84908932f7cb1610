/** Where a credential stands in a text: from `start` up to, but not including, `end`. */
export interface Credential {
  start: number
  end: number
}

/**
 * Tokens that can be recognised by their first characters. Each pattern is a fixed text, followed by one character
 * class, so that no text makes it backtrack.
 */
const tokens = [
  '(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}', // AWS
  'eyJ[\\w-]{8,}[\\w.-]*', // JSON Web Tokens: base64url of `{"`
  '[sr]k_(?:live|test)_\\w+', // Stripe
  'whsec_[\\w+/=-]+', // Standard Webhooks
  'gh[a-z]_\\w+',
  'github_pat_\\w+',
  'glpat-[\\w-]+',
  'xox[a-z]-[\\w-]+', // Slack
  'xapp-[\\w-]+',
  'hooks\\.slack\\.com/services/[^\\s"\']+',
  'AIza[\\w-]{20,}', // Google
  'ya29\\.[\\w.-]+',
  'GOCSPX-[\\w-]+',
  'sk-[\\w-]{16,}', // OpenAI, Anthropic
  'SG\\.[\\w.-]{16,}', // SendGrid
  'npm_\\w{20,}',
  'pypi-[\\w-]{16,}',
  'hf_\\w{20,}',
  'hv[bs]\\.[\\w.-]{16,}', // Vault
  'do[opr]_v1_\\w+',
  'shp[a-z]{2}_\\w{16,}',
  'dckr_pat_[\\w-]+',
  'bot\\d{5,12}:[\\w-]{20,}', // Telegram
  'accepted_[\\w-]{20,}', // our own API keys
]

/**
 * Finds what may be a credential or may stand before one. No alternative takes more than linear time, because a run of
 * characters can begin only at its first character.
 */
const candidate = new RegExp(
  [
    `(?<token>(?<![A-Za-z0-9])(?:${tokens.join('|')}))`,
    '(?<pem>-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)',
    '(?<authority>://)',
    '(?<query>\\?(?=[\\w.~%+-]{1,100}=))', // of a URL: which parameters are secret depends on the service
    '(?<![\\w-])(?<name>[\\w-]+)(?:' +
      [
        `(?<assignment>[\\]\\\\"'\`]{0,9}\\s*(?:={1,3}>?|:=?|%3[ADad])\\s*)`,
        `(?<comma>\\\\{0,8}["'\`]\\s*,\\s*(?=\\\\{0,8}["'\`]))`,
        '(?<element>>)',
        '(?<space>\\s+)',
      ].join('|') +
      ')',
  ].join('|'),
  'g',
)

const secretName = new RegExp(
  [
    'pass(?:word|wd|phrase|code)|pwd|secret|token|jwt|credential|signature|bearer',
    '(?:api|access|account|auth|encryption|master|private|shared|signing|ssh)[-_]?key',
    'sess(?:ion)?[-_]?id',
    '(?:^|[-_])(?:auth|otp|pass|pin|pw|sid|sig)$',
  ].join('|'),
  'i',
)
/** The values of these headers may have several parts, so the rest of the line is the value. */
const secretHeader = /authorization|cookie/i
/** Schemes of HTTP authentication. The credential follows after a space. */
const authScheme = /^(?:basic|bearer|negotiate|ntlm)$/i
/** In SQL, the value follows after a space: `alter role ann password 'x'`. */
const passwordName = /(?:password|passwd|pwd|passphrase)$/i

/** Returns whether a value with this name is probably a credential. */
export const isSecretName = (name: string): boolean => secretName.test(name) || secretHeader.test(name)

/** Finds the first credential at or after a position. Takes time in proportion to the length of the text. */
export function findCredential(text: string, from: number): Credential | undefined {
  candidate.lastIndex = from
  for (;;) {
    const match = candidate.exec(text)
    if (!match) return undefined
    const credential = credentialAt(text, match)
    if (credential && credential.end > credential.start) return credential
    candidate.lastIndex = match.index + 1
  }
}

function credentialAt(text: string, { index: start, 0: { length }, groups = {} }: RegExpExecArray) {
  const end = start + length
  if (groups.token) return { start, end }
  if (groups.pem) return { start, end: endOfPem(text, end) }
  if (groups.authority) return userInfo(text, end)
  if (groups.query) return { start: end, end: end + matchAt(/[^\s"'`<>\\]*/y, text, end).length }
  return namedValue(text, end, groups)
}

function endOfPem(text: string, from: number): number {
  const end = text.indexOf('-----END', from)
  if (end < 0) return text.length
  const dashes = text.indexOf('-----', end + '-----END'.length)
  return dashes < 0 ? text.length : dashes + '-----'.length
}

const authority = /[^\s/]*/y
/** Bounds the search for the end of a password that contains a slash. */
const unencodedUserInfo = /[^\s@]{0,256}@(?:[^\s@]{0,256}@)?/y

/** Finds the user and password of a URL. A password that is not percent-encoded may contain `@` and `/`. */
function userInfo(text: string, start: number): Credential | undefined {
  const found = matchAt(authority, text, start)
  const at = found.lastIndexOf('@')
  if (at >= 0) return { start, end: start + at }
  // After a colon, anything but a port is the beginning of a password.
  if (found.startsWith('[') || !/:(?!\d*$)/.test(found)) return undefined
  const { length } = matchAt(unencodedUserInfo, text, start)
  return { start, end: start + Math.max(length - 1, 0) }
}

function namedValue(text: string, start: number, groups: Record<string, string | undefined>): Credential | undefined {
  const { name = '', assignment, comma, element } = groups
  const isHeader = secretHeader.test(name)
  const isQuoted = openingQuote(text, start) !== ''
  if (comma !== undefined) return isHeader || /^x-/i.test(name) ? quotedValue(text, start, isHeader) : undefined
  if (assignment === undefined && element === undefined) {
    const isFlag = name.startsWith('-') && isSecretName(name)
    const isCredential = isFlag || authScheme.test(name) || (isQuoted && passwordName.test(name))
    return isCredential ? quotedValue(text, start, false) : undefined
  }
  if (!isHeader && !secretName.test(name)) return undefined
  return element === undefined
    ? quotedValue(text, start, isHeader)
    : { start, end: start + matchAt(/[^<]*/y, text, start).length }
}

const restOfLine = /[^\r\n]*/y
const word = /(?:(?:basic|bearer|digest|negotiate|token)\s+)?\S+/iy

function quotedValue(text: string, start: number, isHeader: boolean): Credential {
  // The text may have been redacted before.
  if (text.startsWith('***', start)) return { start, end: start + '***'.length }
  const quote = openingQuote(text, start)
  if (quote) return { start, end: endOfQuoted(text, start + quote.length, quote) }
  if (/[[{]/.test(text.charAt(start))) return { start, end: endOfBrackets(text, start) }
  return { start, end: start + matchAt(isHeader ? restOfLine : word, text, start).length }
}

const openingQuote = (text: string, at: number) => matchAt(/\\{0,8}["'`]/y, text, at)

/**
 * Finds the end of a quoted value. In JSON within JSON, quotes have 1, 3 or 7 backslashes. A quote within the value has
 * more of them: `\\\"`. An escaped backslash before the closing quote adds an even multiple: `\\\\\"`.
 */
function endOfQuoted(text: string, from: number, quote: string): number {
  const backslashes = quote.length - 1
  const quotes = /(?<!\\)(\\*)(["'`])/g
  quotes.lastIndex = from
  for (let match = quotes.exec(text); match; match = quotes.exec(text)) {
    const [found, { length }, character] = match as unknown as [string, string, string]
    const isClosing = length % (2 * (backslashes + 1)) === backslashes
    if (character === quote.at(-1) && isClosing) return match.index + found.length
  }
  return text.length
}

/** Finds the end of an array or object; the end of the text when a bracket is not closed. */
function endOfBrackets(text: string, from: number): number {
  let depth = 0
  for (let at = from; at < text.length; at++) {
    if ('[{'.includes(text.charAt(at))) depth++
    else if (']}'.includes(text.charAt(at))) depth--
    if (depth === 0) return at + 1
  }
  return text.length
}

function matchAt(pattern: RegExp, text: string, at: number): string {
  pattern.lastIndex = at
  return pattern.exec(text)?.[0] ?? ''
}
