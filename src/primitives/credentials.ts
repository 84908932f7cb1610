import { tokenPatterns } from './token-patterns.ts'

/** Where a credential stands in a text: from `start` up to, but not including, `end`. */
export interface Credential {
  start: number
  end: number
}

/** Names of two words. */
const spacedNames =
  '(?:A[Pp][Ii]|api|[Aa]ccess|[Ee]ncryption|[Ll]icen[cs]e|[Pp]rivate|[Ss]ecret|[Ss]igning) [Kk](?:ey|EY)(?: provided)?'

/**
 * Finds what may be a credential or may stand before one. No alternative takes more than linear time, because a run of
 * characters can begin only at its first character.
 */
const candidate = new RegExp(
  [
    `(?<token>(?<![A-Za-z0-9])(?:${tokenPatterns.join('|')}))`,
    '(?<pem>-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)',
    '(?<authority>(?::|%3[Aa])(?:/|\\\\/|%2[Ff]){2})',
    '(?<query>\\?(?=[\\w.~%+-]{1,100}[=&]))', // of a URL: which parameters are secret depends on the service
    '(?<key>\\bKey \\([^()]{1,200}\\)=(?=\\())', // of a duplicate key, as Postgres reports it
    '<(?<element>[\\w:.-]{1,100})(?:\\s[^<>]{1,200})?>',
    `(?<![\\w-])(?<name>${spacedNames}|[\\w-]+)(?:` +
      [
        `(?<assignment>(?:[\\])\\\\"'\`]|%22|%27|%5[DdCc]){0,9}\\s*(?:={1,3}>?|:=?|%(?:25){0,3}3[ADad])\\s*)`,
        `(?<comma>\\\\{0,8}["'\`]\\s*,\\s*(?=\\\\{0,8}["'\`]))`,
        '(?<space>\\s+)',
      ].join('|') +
      ')',
  ].join('|'),
  'g',
)

const secretName = new RegExp(
  [
    'pass(?:word|wd|phrase|code)|pwd|secret|token|jwt|credential|signature|bearer|csrf|xsrf',
    '(?:api|access|account|auth|encryption|licen[cs]e|master|private|shared|signing|ssh)[-_ ]?key',
    'sess(?:ion)?[-_]?id',
    '(?:^|[-_])(?:auth|otp|pass|pin|pw|sess|session|sid|sig)$',
  ].join('|'),
  'i',
)
/** The values of these headers may have several parts, so the rest of the line is the value. */
const secretHeader = /authorization|cookie/i
/** Schemes of HTTP authentication. The credential follows after a space. */
const authScheme = /^(?:apikey|basic|bearer|negotiate|ntlm)$/i
/** In SQL, the value follows after a space: `alter role ann password 'x'`. */
const passwordName = /(?:password|passwd|pwd|passphrase)$/i
/** In sentences, the value may follow in quotes. A shorter one is a token of a syntax: `Unexpected token 'a'`. */
const tokenName = /(?:token|secret)$/i
const minQuotedTokenLength = 8
/** Options of commands whose value is a user name, a colon and a password. */
const userFlag = /^(?:-u|-U|--user|--proxy-user)$/
/** What precedes the name of a value that stands apart: `{"name":"password","value":"x"}`. */
const maxPairNameLength = 100
const pairName = /^(?:name|key|field|header|param|parameter)$/i
const pairValue =
  /[\s,;]{0,100}(?:\\{0,8}["'`]?(?:value|val|content)\\{0,8}["'`]?\s{0,100}[:=]\s{0,100}|(?<line>\r?\n\r?\n))/iy

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
  if (groups.key) return secretName.test(groups.key) ? { start: end, end: endOfBrackets(text, end) } : undefined
  if (groups.element) return isSecretName(groups.element) ? contentOfElement(text, end) : undefined
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
const encodedAuthority = /(?:[^\s/%]|%(?!2[Ff]))*/y
/** Bounds the search for the end of a password that contains a slash. */
const unencodedUserInfo = /[^\s@]{0,256}@(?:[^\s@]{0,256}@)?/y

/** Finds the user and password of a URL. A password that is not percent-encoded may contain `@` and `/`. */
function userInfo(text: string, start: number): Credential | undefined {
  const isEncoded = /^f$/i.test(text.charAt(start - 1))
  const found = matchAt(isEncoded ? encodedAuthority : authority, text, start)
  const at = found.lastIndexOf(isEncoded ? '%40' : '@')
  if (at >= 0) return { start, end: start + at }
  // After a colon, anything but a port is the beginning of a password.
  if (found.startsWith('[') || !/:(?!\d*$)/.test(found)) return undefined
  const { length } = matchAt(unencodedUserInfo, text, start)
  return { start, end: start + Math.max(length - 1, 0) }
}

function namedValue(text: string, start: number, groups: Record<string, string | undefined>): Credential | undefined {
  const { name = '', assignment, comma } = groups
  const isHeader = secretHeader.test(name)
  const isSecret = isHeader || secretName.test(name)
  if (comma !== undefined) return isSecret || /^x-/i.test(name) ? quotedValue(text, start, isHeader) : undefined
  if (assignment === undefined) return valueAfterSpace(text, start, name)
  if (isSecret) return quotedValue(text, start, isHeader)
  return pairName.test(name) ? valueOfPair(text, start) : undefined
}

function valueAfterSpace(text: string, start: number, name: string): Credential | undefined {
  const isFlag = name.startsWith('-') && isSecretName(name)
  const isQuoted = openingQuote(text, start) !== ''
  if (isFlag || authScheme.test(name) || (isQuoted && passwordName.test(name))) return quotedValue(text, start, false)
  if (userFlag.test(name)) {
    const end = start + matchAt(/\S*/y, text, start).length
    return text.slice(start, end).includes(':') ? { start, end } : undefined
  }
  if (!isQuoted || !tokenName.test(name)) return undefined
  const value = quotedValue(text, start, false)
  return value.end - start < minQuotedTokenLength + 2 ? undefined : value
}

/** Finds the value that follows a name which is itself a value: `name="password"; value="x"`. */
function valueOfPair(text: string, start: number): Credential | undefined {
  if (openingQuote(text, start) === '') return undefined
  const name = quotedValue(text, start, false)
  if (name.end - start > maxPairNameLength || !isSecretName(text.slice(start, name.end))) return undefined
  pairValue.lastIndex = name.end
  const match = pairValue.exec(text)
  // In a form (RFC 7578), the value is what follows an empty line.
  return match ? quotedValue(text, name.end + match[0].length, match.groups?.line !== undefined) : undefined
}

const contentOfElement = (text: string, start: number): Credential => ({
  start,
  end: start + matchAt(/[^<]*/y, text, start).length,
})

const restOfLine = /[^\r\n]*/y
const word = /(?:(?:basic|bearer|digest|negotiate|token)\s+)?\S+/iy

function quotedValue(text: string, start: number, isHeader: boolean): Credential {
  // The text may have been redacted before.
  if (text.startsWith('***', start)) return { start, end: start + '***'.length }
  const quote = openingQuote(text, start)
  if (quote) return { start, end: endOfQuoted(text, start + quote.length, quote) }
  if (/[[{(]/.test(text.charAt(start))) return { start, end: endOfBrackets(text, start) }
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

/** Finds the end of an array, an object or a row; the end of the text when a bracket is not closed. */
function endOfBrackets(text: string, from: number): number {
  let depth = 0
  for (let at = from; at < text.length; at++) {
    if ('[{('.includes(text.charAt(at))) depth++
    else if (']})'.includes(text.charAt(at))) depth--
    if (depth === 0) return at + 1
  }
  return text.length
}

function matchAt(pattern: RegExp, text: string, at: number): string {
  pattern.lastIndex = at
  return pattern.exec(text)?.[0] ?? ''
}
