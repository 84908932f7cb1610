import t from 'tap'
import {
  DecryptionError,
  isEncrypted,
  keyIdOf,
  newEncryptionKey,
  parseKeyRing,
  problemOfKeys,
} from '../../src/primitives/key-ring.ts'

const [old, current] = [newEncryptionKey('2026'), newEncryptionKey('2027')]

t.test('a text is decrypted by the key that encrypted it, also after a newer key was added', async (t) => {
  const encrypted = parseKeyRing(old).encrypt('whsec_ä', 'endpoint 1')
  t.ok(isEncrypted(encrypted))
  t.equal(keyIdOf(encrypted), '2026')
  t.notMatch(encrypted, /whsec/)
  const ring = parseKeyRing(`${current}, ${old}`)
  t.equal(ring.encryptingId, '2027')
  t.equal(ring.decrypt(encrypted, 'endpoint 1'), 'whsec_ä')
  t.equal(keyIdOf(ring.encrypt('', 'endpoint 1')), '2027')
  t.equal(ring.decrypt(ring.encrypt('', 'endpoint 1'), 'endpoint 1'), '')
})

t.test('equal texts have different ciphertexts', async (t) => {
  const ring = parseKeyRing(current)
  t.not(ring.encrypt('4111', 'card'), ring.encrypt('4111', 'card'))
})

t.test('a text with another context, a change, or a missing or wrong key is not decrypted', async (t) => {
  const ring = parseKeyRing(old)
  const encrypted = ring.encrypt('4111', 'card')
  t.throws(() => ring.decrypt(encrypted, 'name'), DecryptionError)
  const last = encrypted.at(-3)
  const changed = `${encrypted.slice(0, -3)}${last === 'A' ? 'B' : 'A'}${encrypted.slice(-2)}`
  t.throws(() => ring.decrypt(changed, 'card'), DecryptionError)
  t.throws(() => parseKeyRing(current).decrypt(encrypted, 'card'), { message: /no key 2026/ })
  t.throws(() => parseKeyRing(newEncryptionKey('2026')).decrypt(encrypted, 'card'), DecryptionError)
  t.throws(() => ring.decrypt('4111', 'card'), DecryptionError)
})

t.test('a text has one MAC for each key, the newest first, which says nothing without the key', async (t) => {
  const [newest, older, ...more] = parseKeyRing(`${current},${old}`).macs('4111')
  t.same(more, [])
  t.same(parseKeyRing(current).macs('4111'), [newest])
  t.same(parseKeyRing(old).macs('4111'), [older])
  t.notSame(parseKeyRing(newEncryptionKey('2027')).macs('4111'), [newest])
  t.notSame(parseKeyRing(current).macs('4112'), [newest])
})

t.test('an invalid list of keys is refused', async (t) => {
  t.equal(problemOfKeys(`${old},${current}`), undefined)
  t.match(problemOfKeys(''), /list of <id>/)
  t.match(problemOfKeys('a b:AAAA'), /list of <id>/)
  t.match(problemOfKeys('2026:c2hvcnQ='), /32 bytes in base64 after 2026:/)
  t.match(problemOfKeys(`${old},${old}`), /2026 occurs twice/)
  t.throws(() => parseKeyRing('2026'), TypeError)
})
