//! bench
use fleetfoot_search::{Layout, Mode, Module};
use fleetfoot_space::SearchSpace;
use std::time::Instant;
use tch::{Kind, Tensor, Device};

fn main() {
    let space = SearchSpace::load("fashion-28").unwrap();
    let arch = space.parse_architecture(&std::env::var("ARCH").unwrap_or("1111111111".into())).unwrap();
    let net = space.network(&arch).unwrap();
    println!("macs {} params {}", net.macs(), net.params());
    for layout in [Layout::ChannelsLast, Layout::Nchw] {
        for threads in [1, 2] {
            tch::set_num_threads(threads);
            for batch in [64i64, 128, 256] {
                let m = Module::initial(net.clone(), 1, layout).unwrap();
                let x = layout.arrange(&Tensor::randn([batch, 1, 28, 28], (Kind::Float, Device::Cpu))).unwrap();
                let y = Tensor::randint(10, [batch], (Kind::Int64, Device::Cpu));
                let ps: Vec<&Tensor> = m.parameters().iter().filter(|p| p.trainable).map(|p| &p.value).collect();
                let n = 15;
                let (mut f, mut b) = (vec![], vec![]);
                for _ in 0..n {
                    let t = Instant::now();
                    let l = m.forward(&x, Mode::Train).unwrap().cross_entropy_for_logits(&y);
                    f.push(t.elapsed().as_secs_f64());
                    let t = Instant::now();
                    let g = Tensor::run_backward(&[&l], &ps, false, false);
                    b.push(t.elapsed().as_secs_f64());
                    drop(g);
                }
                f.sort_by(f64::total_cmp); b.sort_by(f64::total_cmp);
                println!("{layout} threads {threads} batch {batch}: fwd {:.1} ms bwd {:.1} ms; {:.0} images/s", f[n/2]*1e3, b[n/2]*1e3, batch as f64/(f[n/2]+b[n/2]));
            }
        }
    }
}
