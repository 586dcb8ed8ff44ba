// The page's data: facts as JSON, arrays as one gzip block (interp/report/pack.py).

const $ = (id) => document.getElementById(id);
const DATA = JSON.parse($("data").textContent);
let BLOCK = new ArrayBuffer(0);

async function inflate(id) {
  const packed = Uint8Array.from(atob($(id).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// float16 bits -> number, for all 65,536 of them, made on first use.
let HALVES = null;
function halves() {
  if (HALVES) return HALVES;
  HALVES = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) HALVES[bits] = sign * fraction * 2 ** -24;
    else if (exponent === 31) HALVES[bits] = fraction ? NaN : sign * Infinity;
    else HALVES[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return HALVES;
}

// Flat Float32Array (or Uint8Array for "u1") of a reference; decoded once.
function values(ref) {
  if (ref.decoded) return ref.decoded;
  const size = ref.shape.reduce((a, b) => a * b, 1);
  if (ref.type === "f4") ref.decoded = new Float32Array(BLOCK, ref.at, size);
  else if (ref.type === "u1") ref.decoded = new Uint8Array(BLOCK, ref.at, ref.causal ? (ref.shape[0] * (ref.shape[0] + 1)) / 2 : size);
  else {
    const bytes = new Uint8Array(BLOCK, ref.at, 2 * size);
    const table = halves();
    ref.decoded = new Float32Array(size);
    for (let i = 0; i < size; i++) ref.decoded[i] = table[bytes[i] | (bytes[size + i] << 8)] * ref.scale;
  }
  return ref.decoded;
}

// One query's row of a pattern stored by tokens.py: weight of each key block.
function patternRow(pattern, query) {
  const [queries, keys] = pattern.shape;
  const q = Math.min(queries - 1, Math.floor(query / pattern.pool));
  const coded = values(pattern);
  const start = pattern.causal ? (q * (q + 1)) / 2 : q * keys;
  const length = pattern.causal ? q + 1 : keys;
  const row = new Float32Array(keys);
  for (let k = 0; k < length; k++) row[k] = pattern.top * (coded[start + k] / 255) ** 2;
  return row;
}
